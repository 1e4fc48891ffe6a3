"""How long an endpoint asks to wait, from the headers of its reply."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

# Thirty years. Anything longer is a mistake: often a moment, in seconds since 1970, where a duration belongs.
LONGEST_SENSIBLE = 1e9


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait from now, a time since the epoch; None if the headers name no sensible time."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if name in headers:
            seconds = _seconds(headers[name], unit, now)
            if seconds is not None and 0 <= seconds <= LONGEST_SENSIBLE:
                return seconds
    return None


def _seconds(text: str, unit: float, now: float) -> float | None:
    """What a header says: a number, or a date, which may have passed."""
    try:
        return float(text) * unit
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError, OSError):  # no date, or one that no clock reaches
        return None
