"""One HTTP call. The only file that knows openai and the HTTP library.

The openai package's client object decides URL, headers and credentials, so every variable
that it knows means here what it means there. The bytes then go over a session of our own:
the package's own way costs five times the CPU. Where more than a plain POST is needed
(Azure, a proxy, a password in the URL) its own way is taken; both end in the same values.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from llmstream import exact
from llmstream.complain import FIX_FIRST, LATER, Stop, brief, why

if TYPE_CHECKING:  # half a second, and a run that only replays never calls
    import openai

OPENAI = "https://api.openai.com/v1"


class Account(NamedTuple):
    """Whom to ask, and as whom."""

    url: str
    key: str
    azure: bool = False

    @property
    def is_openai(self) -> bool:
        try:
            host = urlsplit(self.url).hostname or ""
        except ValueError:  # with --offline nobody has looked at it
            return False
        return not self.azure and (host == "openai.com" or host.endswith(".openai.com"))


class Sent(NamedTuple):
    """A reply that came back whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Trouble(NamedTuple):
    """A call without a whole reply."""

    kind: str  # connection, timeout, cut
    reason: str
    unsent: bool = False  # there was no connection at all: no request can be to blame


class Endpoint(NamedTuple):
    """An open way to an account. Post and get never raise, but for Stop."""

    post: Callable[[bytes, str], Awaitable[Sent | Trouble]]
    get: Callable[[str], Awaitable[Sent | Trouble]]
    close: Callable[[], Awaitable[None]]


# -- the account: from options and environment, before anything is imported or called ----------


def account(base_url: str | None, key_file: str | None, environ: Mapping[str, str]) -> Account:
    """What the openai package would make of the environment; Stop says what is missing."""
    azure = _is_azure(base_url, environ)
    elsewhere = environ.get("AZURE_OPENAI_ENDPOINT") if azure else environ.get("OPENAI_BASE_URL") or OPENAI
    url = base_url or elsewhere
    if not url:
        raise Stop(FIX_FIRST, "no endpoint: set AZURE_OPENAI_ENDPOINT")
    _check_url(url)
    names = ("AZURE_OPENAI_AD_TOKEN", "AZURE_OPENAI_API_KEY") if azure else ("OPENAI_API_KEY",)
    found = [environ[name].strip() for name in names if environ.get(name, "").strip()]
    key = _key_in(key_file) if key_file else (found or [""])[0]
    made = Account(url, key or "none", azure)  # a server of one's own seldom wants a key
    if not key and (azure or made.is_openai):
        raise Stop(FIX_FIRST, f"no key for {_shown(url)}: set {names[-1]} or give --key-file")
    if not (made.key.isascii() and made.key.isprintable()) or " " in made.key:
        raise Stop(FIX_FIRST, "cannot use the key: it holds a character that no key has")
    if azure and not environ.get("OPENAI_API_VERSION"):
        raise Stop(FIX_FIRST, "no API version for Azure: set OPENAI_API_VERSION")
    return made


def _is_azure(base_url: str | None, environ: Mapping[str, str]) -> bool:
    """The openai package's own rule for its module-level client, and an explicit URL before it."""
    kind = environ.get("OPENAI_API_TYPE")
    if base_url or kind == "openai":
        return False
    if kind:
        if kind != "azure":
            raise Stop(FIX_FIRST, f"cannot use OPENAI_API_TYPE={kind}: openai or azure")
        return True
    credentials = ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "AZURE_OPENAI_ENDPOINT")
    if not any(environ.get(name) for name in credentials) or environ.get("OPENAI_BASE_URL"):
        return False
    if environ.get("OPENAI_API_KEY"):
        raise Stop(FIX_FIRST, "both OpenAI's and Azure's variables are set: set OPENAI_API_TYPE to openai or azure")
    return True


def _check_url(url: str) -> None:
    shown = _shown(url)
    try:
        parts = urlsplit(url)
        _ = parts.port, (parts.hostname or "").encode("idna")
        whole = url.isprintable() and " " not in url
    except ValueError:
        whole = False
    if not whole:
        raise Stop(FIX_FIRST, f"cannot use the endpoint {shown}: not a URL")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Stop(FIX_FIRST, f"cannot use the endpoint {shown}: it must begin with http:// or https://")
    if parts.query or parts.fragment:
        raise Stop(FIX_FIRST, f"cannot use the endpoint {shown}: leave off what comes after the path")
    if parts.path.rstrip("/").endswith("/chat/completions"):
        raise Stop(FIX_FIRST, f"cannot use the endpoint {shown}: leave /chat/completions off")


def _shown(url: str) -> str:
    """A URL for a message: without the password or the key that may stand in it."""
    bare = re.sub(r"^(https?:/*)?.*@", r"\1", url, flags=re.DOTALL | re.IGNORECASE)
    return brief(re.sub(r"[?#].*", "", bare, flags=re.DOTALL), 80)


def _key_in(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise Stop(FIX_FIRST, f"cannot use key file {path}: others can read it; chmod 600 {path}")
            key = file.read(65536).strip()
    except OSError as error:
        raise Stop(FIX_FIRST, f"cannot read key file {path}: {why(error)}") from None
    except UnicodeDecodeError:
        raise Stop(FIX_FIRST, f"cannot use key file {path}: it holds a character that no key has") from None
    if not key:
        raise Stop(FIX_FIRST, f"cannot use key file {path}: it is empty")
    return key


# -- the way ------------------------------------------------------------------------------------


def connect(account: Account, timeout: float) -> Endpoint:
    """Open the way that this account needs."""
    package = account.azure or "@" in urlsplit(account.url).netloc or _proxied(account.url)
    client = _client(account, timeout, package=package)
    way = _through_package if package else _direct
    return way(client, timeout, _discreet(_secrets(account, client)))


def _client(account: Account, timeout: float, *, package: bool) -> openai.AsyncOpenAI:
    """The package's client object. Package: it makes the calls itself, and has to know of proxies."""
    import httpx2
    import openai

    try:
        # Redirects would post the record to another host; further tries are ours to make.
        common: dict[str, Any] = {
            "timeout": httpx2.Timeout(timeout, connect=timeout / 2),
            "max_retries": 0,
            "http_client": openai.DefaultAsyncHttpxClient(follow_redirects=False, trust_env=package),
        }
        client = _azure(account, common) if account.azure else _plain(account, common)
    except ImportError:
        raise Stop(FIX_FIRST, "cannot use a SOCKS proxy: it wants the package socksio") from None
    except OSError as error:
        raise _no_certificates(error) from None
    except (ValueError, httpx2.InvalidURL) as error:  # its text may hold a proxy's password
        raise Stop(FIX_FIRST, f"cannot use the proxy that the environment names ({type(error).__name__})") from None
    _check_headers({**client.default_headers, **client.auth_headers})
    return client


def _plain(account: Account, common: dict[str, Any]) -> openai.AsyncOpenAI:
    import openai

    return openai.AsyncOpenAI(api_key=account.key, base_url=account.url, **common)


def _azure(account: Account, common: dict[str, Any]) -> openai.AsyncOpenAI:
    import openai

    token = os.environ.get("AZURE_OPENAI_AD_TOKEN", "").strip()
    secret = "azure_ad_token" if token == account.key else "api_key"
    settings: dict[str, Any] = {secret: account.key}
    return openai.AsyncAzureOpenAI(azure_endpoint=account.url, **settings, **common)


def _check_headers(headers: Mapping[str, Any]) -> None:
    """Those of the environment's variables that neither HTTP library would send; its error would be a riddle."""
    for name, value in headers.items():
        if isinstance(value, str) and not (re.fullmatch(r"[!#-'*+.^-z|~0-9A-Z-]+", name) and value.isprintable()):
            raise Stop(FIX_FIRST, f"cannot send the header {brief(name, 40)}: it holds a character that no header has")


def _secrets(account: Account, client: openai.AsyncOpenAI) -> set[str]:
    """The key, and what else a call carries that an error must not tell."""
    from urllib.request import getproxies

    found = {account.key}
    for name, value in [*client.default_headers.items(), *client.auth_headers.items()]:
        if isinstance(value, str) and re.search("auth|key|token|secret|cookie", name, re.IGNORECASE):
            found.add(value.rpartition(" ")[2])
    for url in (account.url, *getproxies().values()):
        with contextlib.suppress(ValueError):  # NO_PROXY may be anything
            parts = urlsplit(url)
            password = unquote(parts.password or "")
            pair = f"{unquote(parts.username or '')}:{password}"
            found |= {password, b64encode(pair.encode()).decode()} if password else set()
    return {secret for secret in found if len(secret) >= 8}


def _discreet(secrets: set[str]) -> Callable[[int, Mapping[str, str], bytes], Sent]:
    """Makes a reply, without the secrets where it is an error: some servers quote what they were sent."""
    spelled = re.compile("|".join(map(_spelled, sorted(secrets, key=len, reverse=True))) or "(?!)", re.IGNORECASE)
    signs = [max(re.split(r"[^A-Za-z0-9]+", secret), key=len).encode() for secret in secrets]

    def hide(text: str) -> str:
        return spelled.sub("[key]", text)

    def sent(status: int, headers: Mapping[str, str], body: bytes) -> Sent:
        if any(sign in body for sign in signs) and not (status == 200 and _is_answer(body)):
            body = hide(body.decode("latin-1")).encode("latin-1")
        if status != 200:
            headers = {name.lower(): hide(value) for name, value in headers.items()}
        return Sent(status, headers, body)

    return sent


def _spelled(secret: str) -> str:
    """A secret as it is, and as JSON, a URL or a page may write what is no letter in it."""
    return "".join(
        c if c.isalnum() else rf"(?:\\?{re.escape(c)}|\\u{ord(c):04x}|%{ord(c):02x}|&#(?:{ord(c)}|x{ord(c):x});)"
        for c in secret.encode().decode("latin-1")
    )


def _is_answer(body: bytes) -> bool:
    """What a model says is not ours to change."""
    try:
        return isinstance(exact.loads_leniently(body)["choices"][0]["message"], dict)
    except (ValueError, LookupError, TypeError):
        return False


def _proxied(url: str) -> bool:
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    proxies = getproxies()
    return bool((proxies.get(parts.scheme) or proxies.get("all")) and not proxy_bypass(parts.hostname or ""))


def _direct(client: openai.AsyncOpenAI, timeout: float, sent: Callable[..., Sent]) -> Endpoint:
    """Our own session, with the client's URL and headers."""
    import aiohttp

    base = str(client.base_url).rstrip("/") + "/"
    headers = {**_by_name(client.auth_headers), **_by_name(client.default_headers)}
    fixed = {name: value for name, value in headers.items() if isinstance(value, str)}
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, ssl=_trust(base)),
        headers=fixed,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=timeout / 2),  # ours bounds the whole call, to the point
    )

    async def send(method: str, path: str, **more: Any) -> Sent | Trouble:
        try:
            async with (
                asyncio.timeout(timeout),
                session.request(method, base + path, allow_redirects=False, **more) as reply,
            ):
                return sent(reply.status, reply.headers, await reply.read())
        except TimeoutError as error:
            return _late(base, timeout, connecting=isinstance(error, aiohttp.ConnectionTimeoutError))
        except aiohttp.ClientConnectorCertificateError as error:
            raise _untrusted(base, error.certificate_error) from None
        except aiohttp.ClientConnectorError as error:
            return Trouble("connection", f"cannot connect to {_host(base)}: {why(error.os_error)}", unsent=True)
        except aiohttp.ClientPayloadError:
            return Trouble("cut", "the reply was cut short")
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            return Trouble("connection", "the endpoint closed the connection without an answer")
        except (aiohttp.ClientError, ValueError) as error:
            return Trouble("cut", f"the reply is not HTTP as it should be ({type(error).__name__})")

    return Endpoint(
        post=lambda body, key: send("POST", "chat/completions", data=body, headers={"Idempotency-Key": key}),
        get=lambda path: send("GET", path),
        close=session.close,
    )


def _by_name(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Headers in which a later one replaces an earlier one, however it is written."""
    return {name.title(): value for name, value in headers.items()}


def _trust(base: str) -> Any:
    """The certificates that the openai package's own client trusts."""
    if not base.startswith("https:"):
        return True
    import httpx2

    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        raise _no_certificates(error) from None


def _no_certificates(error: OSError) -> Stop:
    return Stop(FIX_FIRST, f"cannot use the certificates that SSL_CERT_FILE or SSL_CERT_DIR names: {why(error)}")


def _untrusted(base: str, error: Exception) -> Stop:
    reason = getattr(error, "verify_message", "") or type(error).__name__
    return Stop(FIX_FIRST, f"cannot trust {_host(base)}: {reason}; SSL_CERT_FILE can name the authority to trust")


def _late(base: str, timeout: float, *, connecting: bool) -> Trouble:
    if connecting:
        return Trouble("connection", f"cannot connect to {_host(base)} within {timeout / 2:g} s", unsent=True)
    return Trouble("timeout", f"no whole answer within {timeout:g} s")


def _host(base: str) -> str:
    """Where an endpoint is, without the password that may stand before it."""
    return urlsplit(base).netloc.rpartition("@")[2]


def _through_package(client: openai.AsyncOpenAI, timeout: float, sent: Callable[..., Sent]) -> Endpoint:
    """The package's own way: slower, and it knows Azure, proxies and the rest."""
    import httpx2
    import openai

    base = str(client.base_url)

    async def send(call: Callable[[], Awaitable[httpx2.Response]]) -> Sent | Trouble:
        try:
            async with asyncio.timeout(timeout):
                reply = await call()
                return sent(reply.status_code, reply.headers, reply.content)
        except openai.APIStatusError as error:
            return sent(error.response.status_code, error.response.headers, error.response.content)
        except (TimeoutError, openai.APITimeoutError) as error:
            return _late(base, timeout, connecting=isinstance(error.__cause__, httpx2.ConnectTimeout))
        except openai.APIConnectionError as error:
            return _connection_trouble(base, error.__cause__)
        except httpx2.HTTPError as error:
            return _connection_trouble(base, error)

    async def post(body: bytes, key: str) -> Sent | Trouble:
        headers = {"Idempotency-Key": key}
        data = exact.loads(body)
        return await send(
            lambda: client.post("/chat/completions", cast_to=httpx2.Response, body=data, options={"headers": headers})
        )

    return Endpoint(post, lambda path: send(lambda: client.get(f"/{path}", cast_to=httpx2.Response)), client.close)


def _connection_trouble(base: str, error: BaseException | None) -> Trouble:
    """Which kind of trouble an error of the package's HTTP library is. Its text may hold a secret: not quoted."""
    import httpx2

    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        raise _untrusted(base, ValueError("certificate verify failed"))
    if isinstance(error, httpx2.ConnectError):
        return Trouble("connection", f"cannot connect to {_host(base)}", unsent=True)
    if isinstance(error, httpx2.DecodingError) or "without sending complete message body" in str(error):
        return Trouble("cut", "the reply was cut short")
    return Trouble("connection", f"the connection failed ({type(error).__name__})")


# -- the one model of a small server ------------------------------------------------------------


def only_model(account: Account, timeout: float) -> str:
    """The name of the model that an endpoint serves, if it serves exactly one."""

    async def ask() -> Sent | Trouble:
        endpoint = connect(account, timeout)
        try:
            return await endpoint.get("models")
        finally:
            await endpoint.close()

    got = asyncio.run(ask())
    asking = f"cannot ask {_shown(account.url)} for its model"
    if isinstance(got, Trouble):
        raise Stop(LATER, f"{asking}: {got.reason}; or name it with -m")
    if got.status != 200:
        status = FIX_FIRST if got.status < 500 and got.status != 429 else LATER
        raise Stop(
            status, f"{asking}: HTTP {got.status}: {brief(got.body.decode(errors='replace'), 200)}; name it with -m"
        )
    try:
        names = [str(model["id"]) for model in exact.loads_leniently(got.body)["data"]]
    except (ValueError, LookupError, TypeError):
        names = []
    if len(names) == 1:
        return names[0]
    known = f"it serves {', '.join(names[:20])}{', ...' * (len(names) > 20)}" if names else "it does not list any"
    raise Stop(FIX_FIRST, f"no model: name one with -m; {known}")
