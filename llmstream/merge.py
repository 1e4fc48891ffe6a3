"""llm-merge: fold records that belong together into one; gather and convert files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmstream.records.values import Answer, Dialect, Failure, Record
from llmstream.shell import options
from llmstream.shell.messages import FIX_FIRST, Stop, warn
from llmstream.shell.options import Option, pick

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import SimpleNamespace

    from llmstream.calls.ask import Ask
    from llmstream.folds.groups import GroupRules
    from llmstream.folds.rules import FoldRules
    from llmstream.stream.jobs import Work
    from llmstream.stream.reading import Reading
    from llmstream.stream.writers import RecordWriter

FORMS = (
    "llm-merge [-g FIELD]... [-t FIELD=HOW]... [option]... [FILE]...",
    "llm-merge -g FIELD... -p PROMPT | -f PROMPTFILE [option]... [FILE]...",
)
ABOUT = "Gather files into one stream, and fold records that belong together."


def field_and_how(text: str) -> Any:
    from llmstream.folds import rules  # not for --help

    return rules.field_and_how(text)


def read_format(text: str) -> str:
    from llmstream.records import formats  # not for --help

    return options.one_of(*formats.READ)(text)


def written_format(text: str) -> str:
    from llmstream.records import formats  # not for --help

    return options.one_of(*formats.WRITTEN)(text)


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


GROUPED = ("group", "all")
WITH_MODEL = ("prompt", "prompt_file")
PIPE = "pipe the records into another llm-merge"
WITHOUT_MODEL = (("prompt", PIPE), ("prompt_file", PIPE))
# fmt: off
OWN = (
    Option("group", "g", "FIELD", "fold records with the same FIELD into one; may be repeated", options.own_field, (),
           many=True),
    Option("all", help="fold the whole input into one record", excludes=(("group", "--all is one group"),)),
    Option("take", "t", "FIELD=HOW", "fold FIELD so: first last union union:exact concat list sum mean min max count "
           "majority longest; may be repeated", field_and_how, (), many=True, needs=GROUPED),
    Option("match", "", "FIELD", "what identifies an object in a list; may be repeated", options.own_field, (),
           many=True, needs=GROUPED),
    Option("conflicts", "", "FIELD", "keep there what disagreed", options.own_field, place=True, needs=GROUPED),
    Option("sorted", help="the records of a group follow one another: memory is that of one", needs=GROUPED),
    Option("complete", "", "FIELD", "a group is complete when it has as many records as FIELD says", options.own_field,
           needs=GROUPED),
    Option("from", "", "FORMAT", "what is read: csv, json, jsonl or text; by the file's name", read_format),
    Option("to", "", "FORMAT", "what is written: csv, json or jsonl", written_format, "jsonl", excludes=WITHOUT_MODEL),
    Option("encoding", "", "NAME", "of what is read", encoding, "utf-8"),
    Option("delimiter", "", "CHAR", "between the cells of CSV, read and written; a comma, or tab for .tsv", character),
    Option("no-header", help="CSV that is read has no header: its fields are 1, 2, 3 ... or those of --columns"),
    Option("columns", "", "NAMES", "the columns of CSV, with commas between", columns, ()),
    Option("each", "", "TEMPLATE", "also write each record to a file of its own, whose path is a template",
           options.some, excludes=WITHOUT_MODEL),
    Option("prompt", "p", "PROMPT", "have a model fold the groups whose records disagree", needs=GROUPED,
           excludes=(("prompt_file", "each is the prompt"),)),
    Option("always", help="with a prompt: have it fold the others, too", needs=WITH_MODEL),
    Option("fan-in", "", "N", "records that one call folds; more of them are folded as a tree",
           options.whole(2, 1000), 20),
)
# fmt: on
ONLY_OF_A_MODEL = ("system", "schema", "meta", "raw-output", "done")


def _for_merge(option: Option) -> Option:
    if option.long == "output":
        about = "where the answer goes; output, or with -S the record itself"
        return option._replace(help=about, default=None, needs=WITH_MODEL)
    if option.long == "prompt-file":
        return option._replace(needs=GROUPED)
    return option._replace(needs=WITH_MODEL) if option.long in ONLY_OF_A_MODEL else option


# Equal requests always share a call: the same records make the same fold.
FOR_MODEL = tuple(_for_merge(option) for option in options.FOR_MODELS if option.long != "share")
TABLE = (*OWN, *FOR_MODEL, *options.ABOUT_ITSELF)
ONLY_OF_GROUPS = ("complete", "sorted", "take", "match", "conflicts", "always")


def main(argv: list[str]) -> int:
    o, names = options.command_line("llm-merge", FORMS, ABOUT, TABLE, argv)
    from llmstream.folds.groups import GroupRules  # not before: --help is to be quick
    from llmstream.folds.rules import fold_rules
    from llmstream.stream.reading import files_in

    with_model = o.prompt is not None or o.prompt_file is not None
    try:
        rules = fold_rules(o.take, o.match, conflicts=with_model or bool(o.conflicts))
    except ValueError as error:
        raise Stop(FIX_FIRST, f"cannot use -t: {error}") from None
    grouping = GroupRules(o.group, o.sorted, o.complete, warn) if o.group or o.all else None
    form = getattr(o, "from") or ("jsonl" if o.raw_input else None)
    dialect = Dialect(o.encoding, o.delimiter, not o.no_header, o.columns if o.no_header else (), o.raw_input)
    reading = files_in(names or ["-"], form, dialect)
    return main_with_model(o, reading, grouping, rules) if with_model else main_alone(o, reading, grouping, rules)


def main_alone(o: SimpleNamespace, reading: Reading, grouping: GroupRules | None, rules: FoldRules) -> int:
    """Ask nobody."""
    from llmstream.books.books import Keeping
    from llmstream.folds.folded_groups import FoldedGroups
    from llmstream.shell.files import Streams
    from llmstream.stream import flow_without_calls

    plan = flow_without_calls.Plan(pick(o, Streams), reading, pick(o, Keeping))
    work = FoldedGroups(grouping, rules, o.conflicts, keep_members=bool(o.errors))
    return flow_without_calls.run(plan, work, writer(o, reading.files))


def main_with_model(o: SimpleNamespace, reading: Reading, grouping: GroupRules | None, rules: FoldRules) -> int:
    """Have a model fold what belongs together."""
    from llmstream.books import labels
    from llmstream.books.books import Keeping
    from llmstream.books.progress import Showing
    from llmstream.calls import asking
    from llmstream.folds import asked_groups
    from llmstream.shell.files import Streams
    from llmstream.stream import flow, splice

    for option in OWN:
        if o.all and option.long in ONLY_OF_GROUPS and getattr(o, option.name):
            raise Stop(FIX_FIRST, f"cannot use {option.flag} with --all -p: the model alone folds the whole input")
    prompt = options.text_of("prompt file", o.prompt_file) if o.prompt is None else options.not_a_file(o.prompt)
    access, policy = pick(o, asking.Access), pick(o, asking.Policy)._replace(share=True)
    wording = pick(o, asking.Wording)._replace(raw_input=False)  # a prompt without variables is followed by JSON
    shape = asking.shape(wording.schema)
    output = o.output if o.output is not None else () if shape else ("output",)
    splicer = splice.Splicer(pick(o, splice.Placing)._replace(output=output), with_schema=shape is not None)
    account = asking.account(access)
    model = asking.model(o.model, access, account)
    build = asking.builder(prompt, wording, shape, model)
    plan = flow.Plan(
        streams=pick(o, Streams),
        reading=reading,
        done=o.done,
        asking=asking.asking(access, policy, wording, account, [model], shape),
        labels=labels.of(shape) if shape else None,
        keeping=pick(o, Keeping),
        showing=pick(o, Showing),
        ending=pick(o, flow.Ending),
        unordered=o.unordered,
    )

    def make_work(ask: Ask) -> Work:
        async def ask_node(shared: dict[str, Any], parts: Sequence[Any]) -> Answer | Failure:
            request = build(Record(b"", {**shared, "records": parts}, ""))
            return request if isinstance(request, Failure) else await ask(ask.memory.number(request))

        if o.all or grouping is None:
            return asked_groups.AskedWhole(ask_node, splicer, o.fan_in, with_schema=shape is not None)
        without_model = asked_groups.FoldWithoutModel(rules, o.conflicts, always=o.always)
        return asked_groups.AskedGroups(ask_node, splicer, o.fan_in, grouping, without_model)

    return flow.run(plan, make_work)


def writer(o: SimpleNamespace, names: Sequence[str]) -> RecordWriter:
    """What --to and --each say. Without a header --columns names the fields of what is read."""
    from llmstream.stream.writers import RecordWriter, Writing

    writing = Writing(o.to, () if o.no_header else o.columns, o.delimiter or ",")
    inputs: list[str | int] = [0 if name == "-" else name for name in names]
    others = [1, 2, *inputs, *(named.file for named in o.named_files)]
    return RecordWriter(writing, file_for_each(o.each, others) if o.each else None)


def file_for_each(template: str, others: Sequence[str | int]) -> Callable[[Record], Failure | None]:
    """others: files that are open already, and must not be replaced."""
    from llmstream.prompts import bodies  # templates take a while to load
    from llmstream.stream.file_for_each_record import FileForEachRecord, fixed_part

    fixed = fixed_part(template)
    if fixed is None:
        raise Stop(FIX_FIRST, f"cannot use --each {template}: without a {{{{ field }}}} all records are one file")
    try:
        render = bodies.template(template)
    except ValueError as error:
        raise Stop(FIX_FIRST, f"cannot use the template of --each: {error}") from None

    def path_of(record: Record) -> bytes | Failure:
        try:
            return render(record).encode()
        except Exception as error:  # noqa: BLE001 - a template may fail in any way; it is this record's failure
            return Failure("template", bodies.explain(error))

    return FileForEachRecord(fixed, path_of, others).put
