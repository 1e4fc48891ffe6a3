"""Why a call brought no answer, and what follows from it."""

from __future__ import annotations

from enum import Enum
from typing import Self


class Cause(Enum):
    """What went wrong with one call. The values are for people who debug; nothing else reads them."""

    UNREACHED = "there was no connection at all"
    DROPPED = "the connection was closed or reset before an answer came"
    LATE = "no complete reply came in time"
    CUT = "the reply is incomplete"
    OVERLOADED = "the endpoint is down or too busy: 502, 503"
    SERVER_ERROR = "the endpoint failed, or asks for the same request again: 500, 504, any other 5xx, 408, 409"
    LIMITED = "the account has used up its share for now: 429"
    UNUSABLE = "a 200 without an answer in it"
    FORM_REFUSED = "the endpoint does not take this form of response_format"

    @classmethod
    def of_status(cls, status: int) -> Self | None:
        """The cause that an HTTP status stands for; None if trying again cannot help, or nothing is wrong.

        A 429 may also say that the quota is spent. Only its body can tell, and waiting does not help then.
        """
        if status == 429:
            return cls.LIMITED
        if status in (502, 503):
            return cls.OVERLOADED
        if status in (408, 409) or status >= 500:
            return cls.SERVER_ERROR
        return None

    @property
    def failure_type(self) -> str:
        """What the errors file, the log and the manual call it."""
        return _FAILURE_TYPES.get(self, "http")

    @property
    def may_be_billed(self) -> bool:
        """The model may have worked on it, so each further try may be paid for once more."""
        return self in (Cause.LATE, Cause.CUT, Cause.UNUSABLE)

    @property
    def counts(self) -> bool:
        """Is a further try after it one of --retries?"""
        return self in (Cause.UNREACHED, Cause.DROPPED, Cause.OVERLOADED, Cause.SERVER_ERROR)

    @property
    def blames_endpoint(self) -> bool:
        """No single request can be to blame, so every other request would fail in the same way.

        For OVERLOADED this holds only until the endpoint has answered once in this run: after that it may be
        one request that its server dies of. The caller has to know whether it has answered.
        """
        return self in (Cause.UNREACHED, Cause.OVERLOADED)


_FAILURE_TYPES = {
    Cause.UNREACHED: "connection",
    Cause.DROPPED: "connection",
    Cause.LATE: "timeout",
    Cause.CUT: "cut",
    Cause.UNUSABLE: "reply",
}  # of the others the status says what it was
