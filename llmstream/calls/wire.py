"""One HTTP call. The only file that knows openai and the HTTP library.

Every variable that the openai package knows means here what it means there, and a plain
endpoint hears the same URL and headers, from a session of our own: the package takes half
a second to import and five times the CPU for a call. Where more than a plain POST is needed
(Azure, a proxy, a password in the URL), and for whatever is not understood here, the
package makes the calls itself; both ways end in the same values.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from llmstream import __version__
from llmstream.records import exact
from llmstream.records.words import brief
from llmstream.shell.messages import FIX_FIRST, LATER, Stop, why

if TYPE_CHECKING:  # the package takes half a second
    import ssl

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


def load(account: Account) -> None:
    """Import what this account needs: a tenth of a second, or half of one."""
    if _plain(account, os.environ):
        _load_aiohttp()
    else:
        import openai  # noqa: F401


def _load_aiohttp() -> None:
    """Spare it the certificates that it reads while it is imported, a quarter of the way to the first answer.
    A connection is given its own (_trust); one that was not would trust nobody."""
    import ssl

    read = ssl.SSLContext.set_default_verify_paths
    ssl.SSLContext.set_default_verify_paths = lambda self: None  # type: ignore[method-assign]  # for the import alone
    try:
        import aiohttp  # noqa: F401
    finally:
        ssl.SSLContext.set_default_verify_paths = read  # type: ignore[method-assign]


def connect(account: Account, timeout: float) -> Endpoint:
    """Open the way that this account needs."""
    plain = _plain(account, os.environ)
    if not plain:
        return _through_package(account, timeout)
    _check_headers(plain.headers)
    return _direct(plain, timeout, _discreet(_secrets(account, plain.headers)))


class _Plain(NamedTuple):
    """What every call to a plain endpoint begins with, and carries besides its body."""

    base: str
    headers: dict[str, str]


# Whatever else begins with OPENAI_ may be read by the package, of this version or the next.
_UNDERSTOOD = {
    "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_TYPE", "OPENAI_API_VERSION",  # in the account
    "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS",  # in the headers
    "OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET",  # nothing in a call for an answer
    "OPENAI_API_BASE", "OPENAI_MODEL", "OPENAI_ORGANIZATION",  # other programs read them, the package does not
}  # fmt: skip
# Headers that an HTTP library, or the package, acts on before it sends them.
_OBEYED = re.compile("accept-encoding|connection|content-.*|cookie|expect|host|te|trailer|transfer-encoding|upgrade")


def _plain(account: Account, environ: Mapping[str, str]) -> _Plain | None:
    """What the openai package would send; None where it has to be asked."""
    unknown = any(name.startswith("OPENAI_") and name not in _UNDERSTOOD for name in environ)
    if account.azure or unknown or _proxied(account.url):
        return None
    base, own = _base(account.url), _own_headers(environ)
    if not base or any(_OBEYED.fullmatch(name.lower()) for name in own):
        return None
    return _Plain(base, _headers(account.key, own, environ))


_NAME = r"[\w.-]*[a-z][\w-]*"
_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_HOST = rf"{_NAME}|{_BYTE}(?:\.{_BYTE}){{3}}|\[::1\]"
_PATH = r"(?:/[\w.~!$&'()*+,;=:@-]*)*"


def _base(url: str) -> str | None:
    """What the paths of an endpoint begin with, to the letter; None for a URL that the package would rewrite."""
    found = re.fullmatch(rf"(https?)://({_HOST})(:[1-9]\d*)?({_PATH})", url, re.ASCII | re.IGNORECASE)
    if not found or {".", ".."} & set(found[4].split("/")):
        return None
    scheme, host, port, path = found[1].lower(), found[2].lower(), found[3] or "", found[4]
    usual = {"http": ":80", "https": ":443"}[scheme]
    return f"{scheme}://{host}{port if port != usual else ''}{path}{'' if path.endswith('/') else '/'}"


def _own_headers(environ: Mapping[str, str]) -> dict[str, str]:
    """Those that the user has named, as the package reads them."""
    found = [line.partition(":") for line in environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")]
    return {name.strip(): value.strip() for name, colon, value in found if colon}


def _headers(key: str, own: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The package's, in its order: a later one replaces an earlier one or, being None, takes it away.

    But for those in which it introduces itself: it is not the package that calls.
    """
    named: dict[str, str | None] = {
        "Accept": "application/json",
        "User-Agent": f"llmstream/{__version__}",
        **own,
        "OpenAI-Organization": environ.get("OPENAI_ORG_ID"),
        "OpenAI-Project": environ.get("OPENAI_PROJECT_ID"),
        **own,
    }
    every = [("Authorization", f"Bearer {key}"), *named.items()]
    last = {name.lower(): (name, value) for name, value in every}  # however it is written
    return {name: value for name, value in last.values() if value is not None}


def _check_headers(headers: Mapping[str, str]) -> None:
    """Those of the environment's variables that the package could not send; its error would be a riddle."""
    for name, value in headers.items():
        if not (re.fullmatch(r"[!#-'*+.^-z|~0-9A-Z-]+", name) and re.fullmatch(r"(?:[!-~]+(?:[ \t]+[!-~]+)*)?", value)):
            raise Stop(FIX_FIRST, f"cannot send the header {brief(name, 40)}: it holds a character that no header has")


def _secrets(account: Account, headers: Mapping[str, str]) -> set[str]:
    """The key, and what else a call carries that an error must not tell."""
    from urllib.request import getproxies

    found = {account.key}
    for name, value in headers.items():
        if re.search("auth|key|token|secret|cookie", name, re.IGNORECASE):
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
    """Whether a proxy is named for it, and the host not plainly among those that need none."""
    from urllib.request import getproxies

    proxies, parts = getproxies(), urlsplit(url)
    if not (proxies.get(parts.scheme) or proxies.get("all")):
        return False
    host = parts.hostname or ""
    spared = {name.strip() for name in proxies.get("no", "").split(",")} - {""}
    return not any(name in ("*", host) or host.endswith(f".{name.removeprefix('.')}") for name in spared)


class _Deadline:
    """The time that a call may take, to the point: what asyncio.timeout does, with one timer for all calls.

    All may take equally long, so the one that began first is the next to be late.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._calls: dict[asyncio.Task[Any], tuple[float, int]] = {}  # when, and how often it was cancelled before
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # a call is made by one
        at = self._loop.time() + self._seconds
        self._calls[task] = at, task.cancelling()
        if self._timer is None:
            self._timer = self._loop.call_at(at, self._ring)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        task = asyncio.current_task()
        assert task is not None
        before = self._calls.pop(task)[1]
        if task in self._late:
            self._late.remove(task)
            if task.uncancel() <= before and kind is asyncio.CancelledError:
                raise TimeoutError

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        for task, (at, _) in self._calls.items():
            if at > now:
                self._timer = self._loop.call_at(at, self._ring)
                break
            if task not in self._late:
                self._late.add(task)
                task.cancel()


def _direct(plain: _Plain, timeout: float, sent: Callable[..., Sent]) -> Endpoint:
    """Our own session."""
    _load_aiohttp()
    import aiohttp

    base, as_json = plain.base, partial(aiohttp.BytesPayload, content_type="application/json")
    deadline = _Deadline(timeout)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, ssl=_trust(base)),
        headers=plain.headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=timeout / 2),  # ours bounds the whole call, to the point
    )

    async def send(method: str, path: str, **more: Any) -> Sent | Trouble:
        try:
            with deadline:
                async with session.request(method, base + path, allow_redirects=False, **more) as reply:
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
        post=lambda body, key: send("POST", "chat/completions", data=as_json(body), headers={"Idempotency-Key": key}),
        get=lambda path: send("GET", path),
        close=session.close,
    )


def _trust(base: str) -> Any:
    """The certificates that the openai package's own client trusts."""
    if not base.startswith("https:"):
        return True
    try:
        return _certificates()
    except OSError as error:
        raise _no_certificates(error) from None


def _certificates() -> ssl.SSLContext:
    """What httpx2 makes of the environment and of an ordinary Linux; elsewhere it is asked itself."""
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
    """Whether OpenSSL finds a certificate in it."""
    return any(re.fullmatch(r"[0-9a-fA-F]{8}\.\d", name) for name in os.listdir(folder))


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


def _through_package(account: Account, timeout: float) -> Endpoint:
    """The package's own way: slower, and it knows Azure, proxies and the rest."""
    import httpx2
    import openai

    client, deadline = _client(account, timeout), _Deadline(timeout)
    named = {**client.auth_headers, **client.default_headers}
    headers = {name: value for name, value in named.items() if isinstance(value, str)}
    _check_headers(headers)
    base, sent = str(client.base_url), _discreet(_secrets(account, headers))

    async def send(call: Callable[[], Awaitable[httpx2.Response]]) -> Sent | Trouble:
        try:
            with deadline:
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


def _client(account: Account, timeout: float) -> openai.AsyncOpenAI:
    import httpx2
    import openai

    try:
        httpx2.URL(account.url)
    except httpx2.InvalidURL:
        raise Stop(FIX_FIRST, f"cannot use the endpoint {_shown(account.url)}: not a URL") from None
    try:
        # Redirects would post the record to another host; further tries are ours to make.
        common: dict[str, Any] = {
            "timeout": httpx2.Timeout(timeout, connect=timeout / 2),
            "max_retries": 0,
            "http_client": openai.DefaultAsyncHttpxClient(follow_redirects=False),
        }
        if account.azure:
            return _azure(account, common)
        return openai.AsyncOpenAI(api_key=account.key, base_url=account.url, **common)
    except ImportError:
        raise Stop(FIX_FIRST, "cannot use a SOCKS proxy: it wants the package socksio") from None
    except OSError as error:
        raise _no_certificates(error) from None
    except (ValueError, httpx2.InvalidURL) as error:  # its text may hold a proxy's password
        raise Stop(FIX_FIRST, f"cannot use the proxy that the environment names ({type(error).__name__})") from None


def _azure(account: Account, common: dict[str, Any]) -> openai.AsyncOpenAI:
    import openai

    token = os.environ.get("AZURE_OPENAI_AD_TOKEN", "").strip()
    secret = "azure_ad_token" if token == account.key else "api_key"
    settings: dict[str, Any] = {secret: account.key}
    return openai.AsyncAzureOpenAI(azure_endpoint=account.url, **settings, **common)


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
