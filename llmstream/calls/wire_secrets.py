"""Nothing secret in a message or an error: no key, no password, whoever quotes them."""

from __future__ import annotations

import contextlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import unquote, urlsplit

from llmstream.calls import answer
from llmstream.calls.wire_values import Sent
from llmstream.records.values import Reply
from llmstream.records.words import brief

SHORTEST = 8  # characters; anything shorter stands in many texts that are no secret
_SECRET_HEADER = re.compile("auth|key|token|secret|cookie", re.IGNORECASE)


def url_without_secrets(url: str) -> str:
    """A URL for a message: without the password or the key that may be in it."""
    bare = re.sub(r"^(https?:/*)?.*@", r"\1", url, flags=re.DOTALL | re.IGNORECASE)
    return brief(re.sub(r"[?#].*", "", bare, flags=re.DOTALL), 80)


def host_of(url: str) -> str:
    """The host and port of a URL, without the password that may stand before them."""
    return urlsplit(url).netloc.rpartition("@")[2]


def secrets_of(key: str, url: str, headers: Mapping[str, str]) -> set[str]:
    """The key, and whatever else a call carries that no error may show."""
    from urllib.request import getproxies

    found = {key}
    for name, value in headers.items():
        if _SECRET_HEADER.search(name):
            found.add(value.rpartition(" ")[2])  # without the word Bearer
    for any_url in (url, *getproxies().values()):
        with contextlib.suppress(ValueError):  # NO_PROXY may be anything
            found.update(_secrets_in(any_url))
    return {secret for secret in found if len(secret) >= SHORTEST}


def _secrets_in(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.password:
        user, password = unquote(parts.username or ""), unquote(parts.password)
        yield password
        yield b64encode(f"{user}:{password}".encode()).decode()  # as a header carries it


def redactor(secrets: set[str]) -> Callable[[Sent], Sent]:
    """A function that takes the secrets out of a reply that is an error: some servers quote what they were sent."""
    pattern = "|".join(_spellings(secret) for secret in sorted(secrets, key=len, reverse=True))
    spelled = re.compile(pattern or "(?!)", re.IGNORECASE)
    # The longest part of each secret that every spelling leaves alone: a quick look settles most replies.
    parts = [max(re.split(r"[^A-Za-z0-9]+", secret), key=len).encode() for secret in secrets]

    def redact(reply: Sent) -> Sent:
        if any(part in reply.body for part in parts):
            is_answer = reply.status == 200 and isinstance(answer.read(reply.body), Reply)
            if not is_answer:  # what a model says is not ours to change
                text = spelled.sub("[key]", reply.body.decode("latin-1"))
                reply = reply._replace(body=text.encode("latin-1"))
        if reply.status != 200:
            headers = {name.lower(): spelled.sub("[key]", value) for name, value in reply.headers.items()}
            reply = reply._replace(headers=headers)
        return reply

    return redact


def _spellings(secret: str) -> str:
    """A pattern for a secret as it is, and as JSON, a URL or a web page may write whatever in it is no letter."""
    return "".join(
        c if c.isalnum() else rf"(?:\\?{re.escape(c)}|\\u{ord(c):04x}|%{ord(c):02x}|&#(?:{ord(c)}|x{ord(c):x});)"
        for c in secret.encode().decode("latin-1")
    )
