"""What happened in a run: one stream of events, counted here and written to the log where there is one."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmstream import __version__
from llmstream.books import histogram
from llmstream.records.values import Failure, Outcome, Reply, Request, Spent, Usage, sum_of_costs, usage_as_dict
from llmstream.shell import messages

if TYPE_CHECKING:
    from llmstream.books.log import Log

NO_USAGE = Usage(0, 0)
MOST_MODELS = 50  # that are counted each; some endpoints have a new name for every call
SHOWN = 10  # failures that get a line of their own; after that they are counted


@dataclass(slots=True)
class Counts:
    """One run's books: read = out + failed + kept + unasked + lost."""

    read: int = 0
    out: int = 0
    failed: int = 0
    failures: int = 0  # a group fails once
    passed: int = 0  # handed on to stdout
    kept: int = 0  # answered and in the done-file, but stdout had gone
    unasked: int = 0  # read ahead, and not answered because the run stopped
    lost: int = 0  # called and paid for, and kept nowhere: there is no done-file, and stdout had gone
    answered: int = 0  # records whose answer is known, printed or not
    failing: int = 0  # records that will be failed when their turn comes, or are
    finished: int = 0  # records that are over: answered, passed on or failed
    replayed: int = 0
    calls: int = 0  # requests that were put to the endpoint
    tries: int = 0  # HTTP calls, further tries and askings counted
    ended: int = 0  # of these, how many came back, whatever they brought
    recalled: int = 0  # requests that the done-file answered
    shared: int = 0  # requests that an equal one answered
    names: list[str] = field(default_factory=list)  # of the first three failures
    kinds: Counter[str] = field(default_factory=Counter)  # of failures
    began: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def too_many(self, most: tuple[float, str] | None) -> str | None:
        """--max-errors: so many, or from the hundredth record on such a share. What is to be said then."""
        if most is None:
            return None
        (limit, unit), seen = most, self.finished
        over = self.failing >= limit if not unit else seen >= 100 and self.failing * 100 > limit * seen
        return f"stopped: {self.failing} of {seen} records failed (--max-errors {limit:g}{unit})" if over else None


class Events:
    """Told of everything that happens; keeps the books of it."""

    def __init__(self, log: Log | None = None) -> None:
        self.counts = Counts()
        self.spent: dict[str, Spent] = {}  # by model
        self.latencies: Counter[int] = Counter()  # of replies, by histogram.bucket
        self._log = log

    @property
    def cost(self) -> float | None:
        """What the run has cost so far, in USD; None where that is not known."""
        return sum_of_costs(spent.cost for spent in self.spent.values())

    def write(self, level: str, event: str, message: str, **fields: Any) -> None:
        if self._log:
            self._log.put(level, event, message, fields)

    def start(self, **fields: Any) -> None:
        message = f"{messages.tool} {__version__} starts"
        self.write("INFO", "run_start", message, version=__version__, pid=os.getpid(), **fields)

    def close(self) -> None:
        if self._log:
            self._log.close()

    # -- calls

    def complete(
        self, request: Request, reply: Reply, duration: float, attempt: int, cost: float | None, rejected: str | None
    ) -> None:
        """A call that brought an answer, accepted or not: it is paid for."""
        self.latencies[histogram.bucket(duration)] += 1
        self.counts.ended += 1
        model = reply.model or request.model
        self._spend(model, reply.usage, cost)
        if self._log is None:
            return
        fields = {
            "key": request.key,
            "id": request.id,
            "model": model,
            "duration": duration,
            "usage": usage_as_dict(reply.usage),
            "cost": cost,
            "attempt": attempt,
            "rejected": rejected,
        }
        level, message = ("WARNING", f"answer not accepted: {rejected}") if rejected else ("INFO", "call complete")
        self._log.put(level, "api_call_complete", message, fields)

    def error(
        self,
        request: Request,
        failure: Failure,
        duration: float,
        attempt: int,
        retry_in: float | None = None,
        *,
        paid: Reply | None = None,
        cost: float | None = None,
    ) -> None:
        """A call that brought none. Retry_in: after so many seconds there is a further try."""
        self.counts.ended += 1
        if paid:
            self._spend(paid.model, paid.usage, cost)
        if self._log is None:
            return
        fields: dict[str, Any] = {
            "key": request.key,
            "id": request.id,
            "model": paid.model if paid else request.model,
            "duration": duration,
            "status": failure.status,
            "type": failure.type,
            "error": failure.message,
            "attempt": attempt,
            "retry_in": None if retry_in is None else round(retry_in, 3),
        }
        if paid:
            fields |= {"usage": usage_as_dict(paid.usage), "cost": cost}
        level = "ERROR" if retry_in is None else "WARNING"
        self._log.put(level, "api_call_error", f"call failed: {failure.message}", fields)

    def _spend(self, model: str, usage: Usage | None, cost: float | None) -> None:
        if model not in self.spent and len(self.spent) >= MOST_MODELS:
            model = "others"
        call = Spent(1, *(usage or NO_USAGE), cost)
        self.spent[model] = self.spent[model].plus(call) if model in self.spent else call

    # -- the endpoint's limits

    def limited(self, seconds: float) -> None:
        self.write("WARNING", "rate_limited", f"the endpoint asks to wait {seconds:.3g} s", seconds=round(seconds, 3))

    def width(self, jobs: int, before: int) -> None:
        level = "WARNING" if jobs < before else "INFO"
        self.write(level, "concurrency", f"{jobs} calls may be in flight", jobs=jobs, before=before)

    # -- records

    def replayed(self, outcome: Outcome) -> None:
        self.counts.replayed += outcome.of
        if self._log:
            where, name = outcome.source.where, getattr(outcome.source, "id", None)
            self._log.put("DEBUG", "record_replayed", "answered by the done-file", {"where": where, "id": name})

    def failed(self, outcome: Outcome, failure: Failure, *, talkative: bool, kept_in: str | None) -> None:
        """Count a failed record, or group of them, and name it while the names are few."""
        counts, where = self.counts, outcome.source.where
        counts.failures += 1
        counts.failed += outcome.of
        counts.kinds[failure.type] += outcome.of
        if len(counts.names) < 3:
            counts.names.append(where)
        if counts.failures <= SHOWN or talkative:
            status = f" (HTTP {failure.status})" if failure.status and failure.status != 200 else ""
            messages.say(f"{where}: {failure.message}{status}")
        elif counts.failures == SHOWN + 1:
            where_to_look = f"they are in {kept_in}" if kept_in else "-e FILE keeps them"
            messages.say(f"further failures are counted, not shown; {where_to_look}")
        self.write(
            "ERROR", "record_failed", f"record failed: {failure.message}", where=where,
            id=getattr(outcome.source, "id", None), type=failure.type, error=failure.message, status=failure.status,
            attempts=failure.attempts, records=outcome.of,
        )  # fmt: skip
