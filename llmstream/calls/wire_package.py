"""Through the openai package: slower, but it knows Azure, proxies, and variables that are not understood here."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from llmstream.calls.causes import Cause
from llmstream.calls.wire_account import AZURE_TOKEN, Account
from llmstream.calls.wire_deadline import Deadline
from llmstream.calls.wire_secrets import host_of, redactor, secrets_of, url_without_secrets
from llmstream.calls.wire_troubles import CUT_SHORT, check_headers, late, no_certificates, slow_to_connect, untrusted
from llmstream.calls.wire_values import Sent, Trouble
from llmstream.records import exact
from llmstream.shell.messages import FIX_FIRST, Stop

if TYPE_CHECKING:  # the package takes half a second
    import httpx2
    import openai


class PackageEndpoint:
    """A client of the openai package."""

    def __init__(self, account: Account, timeout: float) -> None:
        self._client = _client(account, timeout)
        named = {**self._client.auth_headers, **self._client.default_headers}
        headers = {name: value for name, value in named.items() if isinstance(value, str)}
        check_headers(headers)
        self._base = str(self._client.base_url)
        self._timeout = timeout
        self._deadline = Deadline(timeout)
        self._redact = redactor(secrets_of(account.key, account.url, headers))

    async def post(self, body: bytes, key: str) -> Sent | Trouble:
        import httpx2

        options: Any = {"headers": {"Idempotency-Key": key}}
        data = exact.loads(body)
        return await self._send(
            self._client.post("/chat/completions", cast_to=httpx2.Response, body=data, options=options)
        )

    async def get(self, path: str) -> Sent | Trouble:
        import httpx2

        return await self._send(self._client.get(f"/{path}", cast_to=httpx2.Response))

    async def close(self) -> None:
        await self._client.close()

    async def _send(self, call: Awaitable[httpx2.Response]) -> Sent | Trouble:
        import httpx2
        import openai

        try:
            with self._deadline:
                return self._sent(await call)
        except openai.APIStatusError as error:
            return self._sent(error.response)
        except (TimeoutError, openai.APITimeoutError) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                return slow_to_connect(self._base, self._timeout / 2)
            return late(self._timeout)
        except openai.APIConnectionError as error:
            return _trouble(self._base, error.__cause__)
        except httpx2.HTTPError as error:
            return _trouble(self._base, error)

    def _sent(self, reply: httpx2.Response) -> Sent:
        return self._redact(Sent(reply.status_code, reply.headers, reply.content))


def _client(account: Account, timeout: float) -> openai.AsyncOpenAI:
    import httpx2
    import openai

    try:
        httpx2.URL(account.url)
    except httpx2.InvalidURL:
        raise Stop(FIX_FIRST, f"cannot use the endpoint {url_without_secrets(account.url)}: not a URL") from None
    try:
        # A redirect would post the record to another host. Further tries are ours to make.
        common: dict[str, Any] = {
            "timeout": httpx2.Timeout(timeout, connect=timeout / 2),
            "max_retries": 0,
            "http_client": openai.DefaultAsyncHttpxClient(follow_redirects=False),
        }
        if account.azure:
            token = os.environ.get(AZURE_TOKEN, "").strip()
            secret = "azure_ad_token" if token == account.key else "api_key"
            common[secret] = account.key
            return openai.AsyncAzureOpenAI(azure_endpoint=account.url, **common)
        return openai.AsyncOpenAI(api_key=account.key, base_url=account.url, **common)
    except ImportError:
        raise Stop(FIX_FIRST, "cannot use a SOCKS proxy: it needs the package socksio") from None
    except OSError as error:
        raise no_certificates(error) from None
    except (ValueError, httpx2.InvalidURL) as error:  # its text may hold a proxy's password
        raise Stop(FIX_FIRST, f"cannot use the proxy that the environment names ({type(error).__name__})") from None


def _trouble(base: str, error: BaseException | None) -> Trouble:
    """What an error of the package's HTTP library means. Its text is not quoted: it may hold a secret."""
    import httpx2

    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        raise untrusted(base, "certificate verify failed")
    if isinstance(error, httpx2.ConnectError):
        return Trouble(Cause.UNREACHED, f"cannot connect to {host_of(base)}")
    if isinstance(error, httpx2.DecodingError) or "without sending complete message body" in str(error):
        return CUT_SHORT
    return Trouble(Cause.DROPPED, f"the connection failed ({type(error).__name__})")
