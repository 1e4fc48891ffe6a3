"""Whom to ask, and as whom: from options and environment, before anything is imported or called."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from llmstream.calls.wire_secrets import url_without_secrets
from llmstream.shell.messages import FIX_FIRST, Stop, why

NO_KEY = "none"  # what a server hears that needs no key
LONGEST_KEY = 65536  # characters read from a key file
AZURE_TOKEN = "AZURE_OPENAI_AD_TOKEN"  # noqa: S105  the name of a variable, not a token


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


class _Service(NamedTuple):
    """The variables that the openai package reads for a kind of API."""

    url: str
    keys: tuple[str, ...]  # the first that is set counts; the last is the one to name in a message
    usual_url: str = ""
    version: str = ""  # the variable that must name one


_OPENAI = _Service("OPENAI_BASE_URL", ("OPENAI_API_KEY",), usual_url="https://api.openai.com/v1")
_AZURE = _Service("AZURE_OPENAI_ENDPOINT", (AZURE_TOKEN, "AZURE_OPENAI_API_KEY"), version="OPENAI_API_VERSION")


def account(base_url: str | None, key_file: str | None, environ: Mapping[str, str]) -> Account:
    """What the openai package would make of the environment; Stop says what is missing."""
    service = _AZURE if _is_azure(base_url, environ) else _OPENAI
    url = _url(base_url, service, environ)
    key = _key(key_file, service, environ)
    account = Account(url, key or NO_KEY, azure=service is _AZURE)
    if not key and (account.azure or account.is_openai):  # a server of one's own seldom needs one
        raise Stop(FIX_FIRST, f"no key for {url_without_secrets(url)}: set {service.keys[-1]} or give --key-file")
    if service.version and not environ.get(service.version):
        raise Stop(FIX_FIRST, f"no API version for Azure: set {service.version}")
    return account


def _is_azure(base_url: str | None, environ: Mapping[str, str]) -> bool:
    """The openai package's own rule for its module-level client; but an explicit URL always wins."""
    kind = environ.get("OPENAI_API_TYPE")
    if base_url or kind == "openai":
        return False
    if kind:
        if kind != "azure":
            raise Stop(FIX_FIRST, f"cannot use OPENAI_API_TYPE={kind}: openai or azure")
        return True
    if not any(environ.get(name) for name in (_AZURE.url, *_AZURE.keys)) or environ.get(_OPENAI.url):
        return False
    if environ.get("OPENAI_API_KEY"):
        raise Stop(FIX_FIRST, "both OpenAI's and Azure's variables are set: set OPENAI_API_TYPE to openai or azure")
    return True


def _url(base_url: str | None, service: _Service, environ: Mapping[str, str]) -> str:
    url = base_url or environ.get(service.url) or service.usual_url
    if not url:
        raise Stop(FIX_FIRST, f"no endpoint: set {service.url}")
    wrong = _wrong_with_url(url)
    if wrong:
        raise Stop(FIX_FIRST, f"cannot use the endpoint {url_without_secrets(url)}: {wrong}")
    return url


def _wrong_with_url(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port, (parts.hostname or "").encode("idna")  # raise ValueError for what is none
    except ValueError:
        return "not a URL"
    if " " in url or not url.isprintable():
        return "not a URL"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "it must begin with http:// or https://"
    if parts.query or parts.fragment:
        return "leave off what comes after the path"
    if parts.path.rstrip("/").endswith("/chat/completions"):
        return "leave /chat/completions off"
    return None


def _key(key_file: str | None, service: _Service, environ: Mapping[str, str]) -> str:
    """The key that a header can carry; empty if there is none."""
    if key_file:
        key = _key_in_file(key_file)
    else:
        keys = [environ.get(name, "").strip() for name in service.keys]
        key = next(filter(None, keys), "")
    if " " in key or not (key.isascii() and key.isprintable()):
        raise Stop(FIX_FIRST, "cannot use the key: it holds a character that no key has")
    return key


def _key_in_file(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise Stop(FIX_FIRST, f"cannot use key file {path}: others can read it; chmod 600 {path}")
            key = file.read(LONGEST_KEY).strip()
    except OSError as error:
        raise Stop(FIX_FIRST, f"cannot read key file {path}: {why(error)}") from None
    except UnicodeDecodeError:
        raise Stop(FIX_FIRST, f"cannot use key file {path}: it holds a character that no key has") from None
    if not key:
        raise Stop(FIX_FIRST, f"cannot use key file {path}: it is empty")
    return key
