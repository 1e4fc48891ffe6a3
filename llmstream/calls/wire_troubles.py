"""What can go wrong on either way, in the same words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from llmstream.calls.causes import Cause
from llmstream.calls.wire_secrets import host_of
from llmstream.calls.wire_values import Trouble
from llmstream.records.words import brief
from llmstream.shell.messages import FIX_FIRST, Stop, why

CUT_SHORT = Trouble(Cause.CUT, "the reply was cut short")

_NAME = re.compile(r"[!#-'*+.^-z|~0-9A-Z-]+")
_VALUE = re.compile(r"(?:[!-~]+(?:[ \t]+[!-~]+)*)?")


def late(seconds: float) -> Trouble:
    return Trouble(Cause.LATE, f"no complete answer within {seconds:g} s")


def slow_to_connect(url: str, seconds: float) -> Trouble:
    return Trouble(Cause.UNREACHED, f"cannot connect to {host_of(url)} within {seconds:g} s")


def untrusted(url: str, reason: str) -> Stop:
    return Stop(FIX_FIRST, f"cannot trust {host_of(url)}: {reason}; SSL_CERT_FILE can name the authority to trust")


def no_certificates(error: OSError) -> Stop:
    return Stop(FIX_FIRST, f"cannot use the certificates that SSL_CERT_FILE or SSL_CERT_DIR names: {why(error)}")


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse what the environment puts into a header and HTTP cannot carry: a library's own error would be a riddle."""
    for name, value in headers.items():
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise Stop(FIX_FIRST, f"cannot send the header {brief(name, 40)}: it holds a character that no header has")
