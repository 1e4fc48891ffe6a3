"""llm-merge: fold records that belong together into one; gather and convert files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmstream.folds import fold, groups
from llmstream.records import equality, exact, splicing, tables
from llmstream.records.values import Failure, Outcome, Record
from llmstream.shell import options
from llmstream.shell.messages import FIX_FIRST, Stop
from llmstream.shell.options import Option
from llmstream.stream import flow_without_calls
from llmstream.stream.writers import Outlet

if TYPE_CHECKING:
    from types import SimpleNamespace

FORMS = (
    "llm-merge [-g FIELD]... [-t FIELD=HOW]... [option]... [FILE]...",
    "llm-merge -g FIELD... -p PROMPT | -f PROMPTFILE [option]... [FILE]...",
)
ABOUT = "Gather files into one stream, and fold records that belong together."


def rule(text: str) -> tuple[equality.Path, fold.How]:
    return fold.take(text)


def columns(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ValueError("names with commas between, each once")
    return names


def character(text: str) -> str:
    text = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(text) != 1 or text in '"\r\n':
        raise ValueError("one character, or tab")
    return text


def encoding(text: str) -> str:
    try:
        "a".encode(text)
    except (LookupError, ValueError):
        raise ValueError("the name of an encoding, such as utf-8, latin-1 or utf-16") from None
    return text


# fmt: off
OWN = (
    Option("group", "g", "FIELD", "fold records with the same FIELD into one; may be repeated", options.own_field, (),
           many=True),
    Option("all", help="fold the whole input into one record"),
    Option("take", "t", "FIELD=HOW", "fold FIELD so: first last union union:exact concat list sum mean min max count "
           "majority longest; may be repeated", rule, (), many=True),
    Option("match", "", "FIELD", "what identifies an object in a list; may be repeated", options.own_field, (),
           many=True),
    Option("conflicts", "", "FIELD", "keep there what disagreed", options.own_field),
    Option("sorted", help="the records of a group follow one another: memory is that of one"),
    Option("complete", "", "FIELD", "a group is complete when it has as many records as FIELD says", options.own_field),
    Option("from", "", "FORMAT", "what is read: csv, json, jsonl or text; by the file's name",
           options.one_of(*tables.READ)),
    Option("to", "", "FORMAT", "what is written: csv, json or jsonl", options.one_of(*tables.WRITTEN), "jsonl"),
    Option("encoding", "", "NAME", "of what is read", encoding, "utf-8"),
    Option("delimiter", "", "CHAR", "between the cells of CSV, read and written; a comma, or tab for .tsv", character),
    Option("no-header", help="CSV that is read has no header: its fields are 1, 2, 3 ... or those of --columns"),
    Option("columns", "", "NAMES", "the columns of CSV, with commas between", columns, ()),
    Option("each", "", "TEMPLATE", "also write each record to a file of its own, whose path is a template",
           options.some),
    Option("prompt", "p", "PROMPT", "have a model fold the groups whose records disagree"),
    Option("always", help="with a prompt: have it fold the others, too"),
    Option("fan-in", "", "N", "records that one call folds; more of them are folded as a tree",
           options.whole(2, 1000), 20),
)
FOR_MODEL = tuple(
    option._replace(help="where the answer goes; output, or with -S the record itself", default=None)
    if option.long == "output" else option
    for option in options.FOR_MODELS if option.long != "share"  # equal requests always are one call
)
# fmt: on
TABLE = (*OWN, *FOR_MODEL, *options.ABOUT_ITSELF)


def main(argv: list[str]) -> int:
    o, names = options.command_line("llm-merge", FORMS, ABOUT, TABLE, argv)
    check(o)
    if o.prompt is None and o.prompt_file is None:
        check_without_model(o)
        names = names or ["-"]
        return flow_without_calls.run(o, names, Merge(o), lambda name: Input(o, name), Outlet(o, names))
    check_with_model(o)
    from llmstream import merge_asking  # with all that calls need

    return merge_asking.run(o, names or ["-"], lambda name: Input(o, name), lambda members: folded(members, o))


def check(o: SimpleNamespace) -> None:
    """Options that do not go together."""
    if o.all and o.group:
        raise Stop(FIX_FIRST, "cannot use --all and -g together: --all is one group")
    for name, flag in (("take", "-t"), ("match", "--match"), ("conflicts", "--conflicts"), ("sorted", "--sorted"),
                       ("complete", "--complete")):  # fmt: skip
        if getattr(o, name) and not (o.group or o.all):
            raise Stop(FIX_FIRST, f"cannot use {flag} alone: it wants -g FIELD or --all")
    try:
        fold.rules(o.take, o.match)
    except ValueError as error:
        raise Stop(FIX_FIRST, f"cannot use -t: {error}") from None


ONLY_WITH_A_MODEL = (
    ("always", "--always"), ("system", "-s"), ("schema", "-S"), ("output", "-o"), ("meta", "-M"), ("raw_output", "-r"),
    ("done", "-d"),
)  # fmt: skip
ONLY_OF_GROUPS = (("complete", "--complete"), ("sorted", "--sorted"), ("take", "-t"), ("match", "--match"),
                  ("conflicts", "--conflicts"), ("always", "--always"))  # fmt: skip


def check_without_model(o: SimpleNamespace) -> None:
    for name, flag in ONLY_WITH_A_MODEL:
        if getattr(o, name) not in (None, False, ()):
            raise Stop(FIX_FIRST, f"cannot use {flag} alone: it wants -p PROMPT")


def check_with_model(o: SimpleNamespace) -> None:
    if not (o.group or o.all):
        raise Stop(FIX_FIRST, "cannot use -p alone: it wants -g FIELD or --all")
    for name, flag in ONLY_OF_GROUPS if o.all else ():
        if getattr(o, name):
            raise Stop(FIX_FIRST, f"cannot use {flag} with --all -p: the model alone folds the whole input")
    if o.to != "jsonl":
        raise Stop(FIX_FIRST, f"cannot use --to {o.to} with a prompt: pipe the records into llm-merge --to {o.to}")
    if o.each:
        raise Stop(FIX_FIRST, "cannot use --each with a prompt: pipe the records into llm-merge --each")


def folded(members: list[Record], o: SimpleNamespace) -> tuple[bytes, bool] | Failure:
    """What a group's records are folded into, and whether something in them disagreed."""
    group = _Folding(members[0], fold.rules(o.take, o.match, conflicts=True))
    for record in members:
        fold.add(group.state, exact.loads(record.line), record.where)
    line = folded_line(group, o.conflicts)
    return line if isinstance(line, Failure) else (line, bool(fold.conflicts(group.state)))


class Input:
    """The records of one file, in its format."""

    def __init__(self, o: SimpleNamespace, name: str) -> None:
        form = vars(o)["from"] or ("jsonl" if o.raw_input else tables.format_of(name))
        header = not o.no_header
        dialect = tables.Dialect(
            o.encoding, o.delimiter or tables.delimiter_of(name), header, () if header else o.columns
        )
        self._reader = tables.reader(form, name, dialect, raw_text=o.raw_input)

    def feed(self, chunk: bytes) -> tables.Found:
        try:
            return self._reader.feed(chunk)
        except tables.Unreadable as error:
            raise Stop(FIX_FIRST, f"cannot read {error}") from None

    def end(self) -> tables.Found:
        try:
            return self._reader.end()
        except tables.Unreadable as error:
            raise Stop(FIX_FIRST, f"cannot read {error}") from None


class _Folding:
    """A group on its way."""

    __slots__ = ("first", "others", "state")

    def __init__(self, first: Record, rules: fold.Rules) -> None:
        self.first = first
        self.state = fold.begin(rules)
        self.others: list[Record] = []  # kept for the errors file alone


class Merge:
    """Records in; with -g or --all the groups of them, each folded into one."""

    def __init__(self, o: SimpleNamespace) -> None:
        self._conflicts: equality.Path | None = o.conflicts
        self._rules = fold.rules(o.take, o.match, conflicts=bool(o.conflicts))
        self._keep = bool(o.errors)
        self._groups = groups.Groups(o, self._begin, self._add) if o.group or o.all else None

    def take(self, record: Record) -> Iterable[Outcome]:
        if self._groups is None:
            return [Outcome(record, record.line + b"\n")]
        ready = self._groups.take(record)
        if isinstance(ready, Failure):
            return [Outcome(record, failure=ready)]
        return map(self._folded, ready) if ready else ()

    def rest(self) -> Iterable[Outcome]:
        return map(self._folded, self._groups.rest()) if self._groups else ()

    def lines(self) -> list[str]:
        return []

    def told(self) -> dict[str, Any]:
        return {}

    def _begin(self, record: Record) -> _Folding:
        return _Folding(record, self._rules)

    def _add(self, group: _Folding, record: Record) -> None:
        if self._keep and group.state.members:
            group.others.append(record._replace(data={}))  # its data is the fold's from here on
        fold.add(group.state, record.data, record.where)

    def _folded(self, ready: groups.Ready[_Folding]) -> Outcome:
        group, failure = ready
        line: bytes | Failure = failure or folded_line(group, self._conflicts)
        if isinstance(line, Failure):
            return Outcome(group.first, failure=line, of=group.state.members, others=group.others)
        return Outcome(group.first, line + b"\n", of=group.state.members, others=group.others)


def folded_line(group: _Folding, conflicts: equality.Path | None) -> bytes | Failure:
    """The record that a group is folded into, with what disagreed where that is wanted."""
    try:
        data = fold.end(group.state)
    except fold.CannotFold as error:
        return Failure("fold", str(error))
    line = group.first.line if fold.untouched(group.state) else exact.dumps(data)
    if not conflicts or not (told := fold.conflicts(group.state)):
        return line
    if name := splicing.blocked(data, conflicts):
        return Failure("output", f"cannot put {'.'.join(conflicts)} into the record: {name} is not an object")
    return splicing.put(Record(line, data, group.first.where), conflicts, exact.dumps(told))
