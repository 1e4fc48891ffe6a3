"""llm-progress: watch a pipe; report on finished and unfinished work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstream.shell import options
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop
from llmstream.shell.named_files import OWN, READ, refuse_shared
from llmstream.shell.options import Option, pick

if TYPE_CHECKING:
    from types import SimpleNamespace

FORMS = (
    "llm-progress [-s N | --size-of FILE] [option]...",
    "llm-progress [option]... DONE-FILE|LOG...",
)
ABOUT = "Show how far a pipe is, passing all through; report on done-files and logs."


def a_file(text: str) -> str:
    if text in ("", "-"):
        raise ValueError("the name of a file; stdin and stdout are what passes through")
    return text


# fmt: off
TABLE = (
    Option("size", "s", "N", "how many records are expected: shows what is left", options.whole(0, 10**15),
           excludes=(("size_of", "both say how many records are expected"),)),
    Option("size-of", "", "FILE", "as many as FILE has lines, blank ones not counted", a_file,
           file=READ),
    Option("interval", "i", "SECONDS", "where stderr is no terminal, a line so often (60); with --watch, look so often "
           "(2 on a terminal, else 60)", options.number(0.1), shared=True),
    Option("name", "N", "NAME", "in a pipe: what stands before the figures", options.some),
    Option("watch", help="with files: keep going until all is done"),
    Option("json", help="with files: a line of JSON for each"),
    Option("prometheus", "", "FILE", "with files: write metrics there, for a textfile collector", a_file,
           file=OWN),
    Option("html", "", "FILE", "with files: write a page there, complete in itself", a_file, file=OWN),
    Option("quiet", "q", help="no warnings; in a pipe: show nothing; with files: the status alone", shared=True),
    *options.ABOUT_ITSELF,
)
# fmt: on


def main(argv: list[str]) -> int:
    o, names = options.command_line("llm-progress", FORMS, ABOUT, TABLE, argv)
    check(o, names)
    if names:
        from llmstream.watch import report
        from llmstream.watch.expected import Expected

        sources = report.Sources(names, Expected(o.size, o.size_of), watch=o.watch, interval=o.interval)
        targets = report.Targets(metrics=o.prometheus, page=o.html)
        return report.run(sources, targets, report.Display(quiet=o.quiet, json=o.json))
    from llmstream.shell import files
    from llmstream.watch import pipe
    from llmstream.watch.expected import Expected

    files.check(pick(o, files.Streams), ["-"])
    said = pipe.Announcements(o.name, o.interval, quiet=o.quiet)
    return pipe.run(Expected(o.size, o.size_of), said)


def check(o: SimpleNamespace, names: list[str]) -> None:
    """What cannot be used together."""
    if names:
        check_files(o, names)
        return
    for flag, value in (("--watch", o.watch), ("--json", o.json), ("--prometheus", o.prometheus), ("--html", o.html)):
        if value:
            raise Stop(FIX_FIRST, f"cannot use {flag} in a pipe: name the done-files or logs to report on")


def check_files(o: SimpleNamespace, names: list[str]) -> None:
    if o.name is not None:
        raise Stop(FIX_FIRST, "cannot use -N with files: each is called by its own name")
    refuse_shared(o.named_files, names)
    if 1 in o.closed and not o.quiet:
        raise Stop(CANNOT_WRITE, "cannot write stdout: it is closed")
