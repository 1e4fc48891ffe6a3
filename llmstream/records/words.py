"""Foreign text for a person: on one line, and with nothing in it that moves a cursor."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_RAW_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def escape(text: str) -> str:
    """Text that cannot move a cursor, forge a line or hide what stands behind it."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def brief(text: str, limit: int = 300) -> str:
    """Foreign text for a message: one line, not a page."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def both_ends(text: str, limit: int = 120) -> str:
    """Foreign text on one line; of a long one the beginning and the end, which says what was expected."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit // 2]} … {line[-limit // 2 :]}"


def name_of_input(name: str) -> str:
    """What a message calls a file that is read."""
    return "<stdin>" if name == "-" else name


def for_terminal(out: bytes) -> bytes:
    """Output with its control characters escaped as JSON would; newlines and tabs stay."""
    return _RAW_CONTROL.sub(_harmless, out.decode(errors="replace")).encode()


def _harmless(found: re.Match[str]) -> str:
    # A record's own white space may hold a carriage return, and no JSON text an escape there.
    return " " if found[0] == "\r" else f"\\u{ord(found[0]):04x}"
