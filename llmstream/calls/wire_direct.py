"""Our own session, for plain endpoints.

A plain endpoint hears from it the URL and the headers that it would hear from the openai package. The package takes
half a second to import, and five times the CPU for each call.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from llmstream import __version__
from llmstream.calls.causes import Cause
from llmstream.calls.wire_account import Account
from llmstream.calls.wire_deadline import Deadline
from llmstream.calls.wire_secrets import host_of, redactor, secrets_of
from llmstream.calls.wire_troubles import CUT_SHORT, check_headers, late, no_certificates, slow_to_connect, untrusted
from llmstream.calls.wire_values import Sent, Trouble
from llmstream.shell.messages import why

if TYPE_CHECKING:
    import ssl

# -- what the package would send ------------------------------------------------------------------

# The package, of this version or the next, may read any other variable that begins with OPENAI_.
_UNDERSTOOD = {
    "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_TYPE", "OPENAI_API_VERSION",  # in the account
    "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS",  # in the headers
    "OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET",  # not in a call for an answer
    "OPENAI_API_BASE", "OPENAI_MODEL", "OPENAI_ORGANIZATION",  # other programs read them, the package does not
}  # fmt: skip
# Headers that an HTTP library, or the package, acts on before it sends them.
_OBEYED = re.compile("accept-encoding|connection|content-.*|cookie|expect|host|te|trailer|transfer-encoding|upgrade")


class Target(NamedTuple):
    """Where the calls to a plain endpoint go, and the headers that each of them carries."""

    base: str  # what every URL begins with
    headers: dict[str, str]


def target(account: Account, environ: Mapping[str, str]) -> Target | None:
    """What the openai package would send; None where only the package itself can tell."""
    unknown = any(name.startswith("OPENAI_") and name not in _UNDERSTOOD for name in environ)
    if account.azure or unknown or _has_proxy(account.url):
        return None
    base, custom = _base(account.url), _custom_headers(environ)
    if not base or any(_OBEYED.fullmatch(name.lower()) for name in custom):
        return None
    return Target(base, _headers(account.key, custom, environ))


def _has_proxy(url: str) -> bool:
    """Whether a proxy is named for a URL whose host is not plainly among those that need none."""
    from urllib.request import getproxies

    proxies, parts = getproxies(), urlsplit(url)
    if not (proxies.get(parts.scheme) or proxies.get("all")):
        return False
    host = parts.hostname or ""
    spared = {name.strip() for name in proxies.get("no", "").split(",")} - {""}
    return not any(name in ("*", host) or host.endswith(f".{name.removeprefix('.')}") for name in spared)


_NAME = r"[\w.-]*[a-z][\w-]*"
_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_HOST = rf"{_NAME}|{_BYTE}(?:\.{_BYTE}){{3}}|\[::1\]"
_PATH = r"(?:/[\w.~!$&'()*+,;=:@-]*)*"
_URL = re.compile(rf"(https?)://({_HOST})(:[1-9]\d*)?({_PATH})", re.ASCII | re.IGNORECASE)


def _base(url: str) -> str | None:
    """What every URL of an endpoint begins with, to the letter; None if the package would rewrite it."""
    found = _URL.fullmatch(url)
    if not found or {".", ".."} & set(found[4].split("/")):
        return None
    scheme, host, port, path = found[1].lower(), found[2].lower(), found[3] or "", found[4]
    if port == {"http": ":80", "https": ":443"}[scheme]:
        port = ""
    return f"{scheme}://{host}{port}{path.removesuffix('/')}/"


def _custom_headers(environ: Mapping[str, str]) -> dict[str, str]:
    """Those that the user has named, as the package reads them."""
    found = [line.partition(":") for line in environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")]
    return {name.strip(): value.strip() for name, colon, value in found if colon}


def _headers(key: str, custom: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The package's, in its order: a later one replaces an earlier one or, if it is None, removes it.

    Those in which the package introduces itself are left out: it is not the package that calls.
    """
    named: dict[str, str | None] = {
        "Accept": "application/json",
        "User-Agent": f"llmstream/{__version__}",
        **custom,
        "OpenAI-Organization": environ.get("OPENAI_ORG_ID"),
        "OpenAI-Project": environ.get("OPENAI_PROJECT_ID"),
        **custom,
    }
    every = [("Authorization", f"Bearer {key}"), *named.items()]
    last = {name.lower(): (name, value) for name, value in every}  # upper or lower case makes no difference
    return {name: value for name, value in last.values() if value is not None}


# -- the session ----------------------------------------------------------------------------------


def load_aiohttp() -> None:
    """Import it without the certificates that it reads meanwhile: a quarter of the time to the first answer.

    A connection is given its own (_trust). One that was not would trust nobody.
    """
    import ssl

    read = ssl.SSLContext.set_default_verify_paths
    ssl.SSLContext.set_default_verify_paths = lambda self: None  # type: ignore[method-assign]  # for the import alone
    try:
        import aiohttp  # noqa: F401
    finally:
        ssl.SSLContext.set_default_verify_paths = read  # type: ignore[method-assign]


class DirectEndpoint:
    """A session of ours with a plain endpoint."""

    def __init__(self, account: Account, target: Target, timeout: float) -> None:
        check_headers(target.headers)
        load_aiohttp()
        import aiohttp

        self._base = target.base
        self._timeout = timeout
        self._deadline = Deadline(timeout)
        self._redact = redactor(secrets_of(account.key, account.url, target.headers))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, ssl=_trust(target.base)),
            headers=target.headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=timeout / 2),  # the deadline limits the whole call
        )

    async def post(self, body: bytes, key: str) -> Sent | Trouble:
        import aiohttp

        data = aiohttp.BytesPayload(body, content_type="application/json")
        return await self._send("POST", "chat/completions", data=data, headers={"Idempotency-Key": key})

    async def get(self, path: str) -> Sent | Trouble:
        return await self._send("GET", path)

    async def close(self) -> None:
        await self._session.close()

    async def _send(self, method: str, path: str, **more: Any) -> Sent | Trouble:
        import aiohttp

        try:
            with self._deadline:
                async with self._session.request(method, self._base + path, allow_redirects=False, **more) as reply:
                    return self._redact(Sent(reply.status, reply.headers, await reply.read()))
        except TimeoutError as error:
            connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
            return slow_to_connect(self._base, self._timeout / 2) if connecting else late(self._timeout)
        except aiohttp.ClientConnectorCertificateError as error:
            reason = getattr(error.certificate_error, "verify_message", "")
            raise untrusted(self._base, reason or type(error.certificate_error).__name__) from None
        except aiohttp.ClientConnectorError as error:
            return Trouble(Cause.UNREACHED, f"cannot connect to {host_of(self._base)}: {why(error.os_error)}")
        except aiohttp.ClientPayloadError:
            return CUT_SHORT
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            return Trouble(Cause.DROPPED, "the endpoint closed the connection without an answer")
        except (aiohttp.ClientError, ValueError) as error:
            return Trouble(Cause.CUT, f"the reply is not valid HTTP ({type(error).__name__})")


# -- certificates ---------------------------------------------------------------------------------


def _trust(base: str) -> ssl.SSLContext | bool:
    """The certificates that the openai package's own client trusts."""
    if not base.startswith("https:"):
        return True
    try:
        return _certificates()
    except OSError as error:
        raise no_certificates(error) from None


def _certificates() -> ssl.SSLContext:
    """What httpx2 makes of the environment and of an ordinary Linux; elsewhere httpx2 itself is asked."""
    import ssl

    if file := os.environ.get("SSL_CERT_FILE"):
        return ssl.create_default_context(cafile=file)
    if folder := os.environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context(capath=folder)
    usual = ssl.get_default_verify_paths()
    file = usual.openssl_cafile if os.path.isfile(usual.openssl_cafile) else None
    folder = usual.openssl_capath if os.path.isdir(usual.openssl_capath) else None
    if sys.platform == "linux" and (file or (folder and _is_rehashed(folder))):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(file, folder)
        return context
    import httpx2

    return httpx2.create_ssl_context()


def _is_rehashed(folder: str) -> bool:
    """Whether OpenSSL finds a certificate in a folder."""
    return any(re.fullmatch(r"[0-9a-fA-F]{8}\.\d", name) for name in os.listdir(folder))
