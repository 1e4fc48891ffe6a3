"""The table of options that every tool shares, and the few lines that read a command line.

Not argparse: long options are never abbreviated, options and operands mix freely, a wrong
value is one line in our own form, and each option may take its value from the environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

from llmstream import __version__
from llmstream.shell import messages
from llmstream.shell.messages import FIX_FIRST, Stop, why
from llmstream.shell.named_files import OWN, READ, WRITTEN, NamedFile, refuse_shared

T = TypeVar("T")


class Option(NamedTuple):
    long: str
    short: str = ""
    value: str = ""  # how the manual calls the value; none: a flag
    help: str = ""
    read: Callable[[str], Any] = str  # ValueError says what is needed
    default: Any = None
    many: bool = False  # may be given again; the values become a tuple
    shared: bool = False  # makes sense for every stage of a pipe: LLMSTREAM_... sets it too
    file: str = ""  # what is done with the file that it names; "@": the file behind an @ is read
    place: bool = False  # a place in the record: none may lie within another
    needs: tuple[str, ...] = ()  # options of which one must be given with it
    excludes: tuple[tuple[str, str], ...] = ()  # options that cannot be given with it, and why

    @property
    def name(self) -> str:
        return self.long.replace("-", "_")

    @property
    def flags(self) -> list[str]:
        return [f"--{self.long}", *([f"-{self.short}"] if self.short else [])]

    @property
    def flag(self) -> str:
        """How a message calls it."""
        return f"-{self.short}" if self.short else f"--{self.long}"

    @property
    def variable(self) -> str:
        return f"LLMSTREAM_{self.name.upper()}"


# -- values ---------------------------------------------------------------------------------


def whole(low: int, high: int = 10**9) -> Callable[[str], int]:
    def read(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high:
            return int(text)
        raise ValueError(f"a whole number from {low} to {high}" if high < 10**9 else f"a whole number, {low} or more")

    return read


def number(low: float, high: float = 1e9) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = float("nan")
        if low <= found <= high:
            return found
        raise ValueError(f"a number from {low:g} to {high:g}" if high < 1e9 else f"a number, {low:g} or more")

    return read


def in_utf8(text: str) -> str:
    """An argument as text; only the name of a file may be any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("UTF-8") from None
    return text


def one_of(*names: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text in names:
            return text
        raise ValueError(", ".join(names[:-1]) + f" or {names[-1]}")

    return read


def some(text: str) -> str:
    if not text:
        raise ValueError("something that is not empty")
    return text


# -- reading a command line -----------------------------------------------------------------


def read(
    table: tuple[Option, ...], argv: list[str], environ: Mapping[str, str] = os.environ, *, mixed: bool = True
) -> tuple[SimpleNamespace, list[str]]:
    """Options and operands. Not mixed: the first operand ends the options, as for env(1)."""
    given, operands = _given(table, list(argv), mixed)
    if "help" in given or "version" in given:
        environ = {}  # whoever asks for help is not to be told of a wrong variable
    settled = {o.name: _settled(o, given.get(o.name), environ) for o in table}
    for name in [name for name in given if f"no_{name}" in settled]:
        settled[f"no_{name}"] = f"no_{name}" in given  # whatever the environment says
    return SimpleNamespace(**settled), operands


def _given(table: tuple[Option, ...], rest: list[str], mixed: bool) -> tuple[dict[str, list[Any]], list[str]]:
    """The values of each option that stands on the command line, and the operands."""
    given: dict[str, list[Any]] = {}
    operands: list[str] = []
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("-") and word != "-":
            option, value = _option(table, word, rest)
            given.setdefault(option.name, []).append(value)
            continue
        operands.append(word)
        if not mixed:
            break
    return given, operands + rest


def _option(table: tuple[Option, ...], word: str, rest: list[str]) -> tuple[Option, Any]:
    """An option and its value, which stands in the same word or is taken from the rest."""
    if word.startswith("--"):
        flag, equals, text = word.partition("=")
        attached = text if equals else None
    else:
        flag, attached = word[:2], word[2:] or None
    known = {flag: option for option in table for flag in option.flags}
    option = known.get(flag) or _unknown(flag, known)
    if not option.value:
        if attached is not None and word.startswith("--"):
            raise Stop(FIX_FIRST, f"cannot use {word}: {flag} takes no value")
        if attached is not None:
            rest.insert(0, f"-{attached}")  # flags in one word: -Ur
        return option, True
    if attached is None and not rest:
        raise Stop(FIX_FIRST, f"cannot use {flag}: it needs {option.value} after it")
    value = rest.pop(0) if attached is None else attached
    return option, _value(option, value, f"{flag} {value}")


def _settled(option: Option, given: list[Any] | None, environ: Mapping[str, str]) -> Any:
    """The value that counts: from the command line, else from the environment, else the default."""
    if given:
        return tuple(given) if option.many else given[-1]
    text = environ.get(option.variable, "") if option.shared else ""
    if not text:
        return option.default if option.value else False
    if not option.value:
        return text.lower() not in ("0", "no", "false")
    value = _value(option, text, f"{option.variable}={text}")
    return (value,) if option.many else value


def _value(option: Option, text: str, shown: str) -> Any:
    try:
        return option.read(text if option.value == "FILE" else in_utf8(text))
    except ValueError as needed:
        raise Stop(FIX_FIRST, f"cannot use {shown}: it needs {needed}") from None


def _unknown(flag: str, known: Mapping[str, Option]) -> Option:
    import difflib  # only on the way out

    near = ["--help"] if flag in ("-h", "-?") else difflib.get_close_matches(flag, known, 1)
    hint = f"did you mean {near[0]}?" if near else "see --help"
    raise Stop(FIX_FIRST, f"no such option {flag}: {hint}")


def check_together(table: Sequence[Option], o: SimpleNamespace) -> None:
    """Stop at options that do not go together."""
    by_name = {option.name: option for option in table}
    for option in table:
        if not _is_given(option, o):
            continue
        if option.needs and not any(_is_given(by_name[name], o) for name in option.needs):
            needed = [f"{by_name[name].flag} {by_name[name].value}".rstrip() for name in option.needs]
            raise Stop(FIX_FIRST, f"cannot use {option.flag} alone: it needs {' or '.join(needed)}")
        for name, reason in option.excludes:
            if _is_given(by_name[name], o):
                both = f"{option.flag} and {by_name[name].flag}"
                raise Stop(FIX_FIRST, f"cannot use {both} together: {reason}")
    _check_places([option for option in table if option.place], o)


def _is_given(option: Option, o: SimpleNamespace) -> bool:
    value = getattr(o, option.name)
    return value not in (None, False, ()) and value != option.default


def _check_places(places: Sequence[Option], o: SimpleNamespace) -> None:
    """No place in the record may lie within another."""
    given = [(option.flag, getattr(o, option.name)) for option in places if getattr(o, option.name)]
    for (one, here), (other, there) in combinations(given, 2):
        if all(name == same for name, same in zip(here, there, strict=False)):
            both = f"{one} {'.'.join(here)} and {other} {'.'.join(there)}"
            raise Stop(FIX_FIRST, f"cannot use {both}: one is within the other")


def pick(o: SimpleNamespace, kind: type[T]) -> T:
    """A frozen value, made of the options that its fields are named after; others have their default."""
    fields: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]  # a NamedTuple: no type variable can say so
    return kind(**{name: getattr(o, name) for name in fields if hasattr(o, name)})


def named_files(table: Iterable[Option], o: SimpleNamespace) -> list[NamedFile]:
    """The files that the options name, and what becomes of each."""
    found = []
    for option in table:
        value = getattr(o, option.name) if option.file else None
        if not value:
            continue
        if option.file != "@":
            found.append(NamedFile(option.flag, value, option.file))
        elif value.startswith("@"):
            found.append(NamedFile(option.flag, value[1:], READ))
    return found


# -- --help -----------------------------------------------------------------------------------


def usage(forms: Iterable[str], about: str, table: Iterable[Option], page: str) -> str:
    """What --help prints."""
    lines = [f"{'usage:' if not n else '      '} {form}" for n, form in enumerate(forms)]
    lines += ["", about, ""]
    for option in table:
        flag = f"-{option.short}, --{option.long}" if option.short else f"    --{option.long}"
        flag = f"  {flag} {option.value}".rstrip()
        text = option.help + (f" ({_shown(option.default)})" if option.default not in (None, ()) else "")
        lines += _columns(flag, text)
    return "\n".join([*lines, "", f"The manual: man {page}", ""])


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ".".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def _columns(flag: str, text: str, column: int = 28, width: int = 80) -> list[str]:
    lines = [flag.ljust(column)] if len(flag) < column - 1 else [flag, " " * column]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append(" " * column)
        lines[-1] += word + " "
    return [line.rstrip() for line in lines]


def command_line(
    tool: str, forms: Iterable[str], about: str, table: tuple[Option, ...], argv: list[str], *, mixed: bool = True
) -> tuple[SimpleNamespace, list[str]]:
    """What every tool does first: hold the standard streams, answer --help, and read the options."""
    closed = messages.hold_standard_streams()
    o, operands = read(table, argv, mixed=mixed)
    if o.help:
        sys.exit(messages.print_out(usage(forms, about, table, tool), closed))
    if o.version:
        sys.exit(messages.print_out(f"{tool} {__version__}\n", closed))
    named = named_files(table, o)
    refuse_shared(named)
    check_together(table, o)
    o.options = dict(vars(o))
    o.closed, o.named_files = closed, named
    messages.quiet = getattr(o, "quiet", False)
    return o, operands


def text_of(name: str, value: str) -> str:
    """The contents of a file that an option names."""
    try:
        with open(value, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise Stop(FIX_FIRST, f"cannot read {name} {value}: {why(error)}") from None
    except UnicodeDecodeError:
        raise Stop(FIX_FIRST, f"cannot read {name} {value}: it is not UTF-8") from None


def text_or_file(name: str, value: str) -> str:
    """An option's own text, or with @ before it the file's."""
    return text_of(name, value[1:]) if value.startswith("@") else value


def prompt_and_files(prompt_file: str | None, operands: list[str]) -> tuple[str, list[str]]:
    """The program first, then the files, as jq has it."""
    if prompt_file is not None:
        return text_of("prompt file", prompt_file), operands or ["-"]
    if not operands:
        raise Stop(FIX_FIRST, "no PROMPT: say what to ask, or -f PROMPTFILE; see --help")
    prompt, *files = operands
    try:
        in_utf8(prompt)
    except ValueError:
        raise Stop(FIX_FIRST, "cannot use PROMPT: it is not UTF-8") from None
    return not_a_file(prompt), files or ["-"]


def not_a_file(prompt: str) -> str:
    if os.path.isfile(prompt):
        raise Stop(FIX_FIRST, f"cannot use the file {prompt} as PROMPT: -f {prompt} reads the prompt from it")
    return prompt


# -- the table --------------------------------------------------------------------------------

NOT_PARAMETERS = ("messages", "model", "n", "stream")


def parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError("NAME=VALUE")
    if name in NOT_PARAMETERS:
        raise ValueError(f"a field of the request other than {', '.join(NOT_PARAMETERS)}")
    from llmstream.records import exact  # not for --help

    try:
        return name, exact.loads(value.encode())
    except ValueError:
        return name, value


def field(text: str) -> tuple[str, ...]:
    """A place in a record, a.b within an object of it; "." is the record itself."""
    if text == ".":
        return ()
    if "/" in text or text.endswith((".json", ".jsonl", ".csv")):
        raise ValueError("the name of a field; the records go to stdout, > FILE")
    if not all(text.split(".")):
        raise ValueError("the name of a field, a.b or .")
    return tuple(text.split("."))


def own_field(text: str) -> tuple[str, ...]:
    if text == ".":
        raise ValueError("the name of a field")
    return field(text)


def count_or_share(text: str) -> tuple[float, str]:
    if text.endswith("%"):
        return number(0, 100)(text[:-1]), "%"
    return whole(1)(text), ""


# fmt: off
FOR_MODELS = (
    Option("prompt-file", "f", "FILE", "read PROMPT from FILE", some, file=READ),
    Option("system", "s", "TEXT", "system message, a template like PROMPT; @FILE reads it from FILE", file="@"),
    Option("model", "m", "NAME", "model; gpt-5.4-mini, or the only one that another endpoint serves", some,
           shared=True),
    Option("base-url", "u", "URL", "endpoint; OPENAI_BASE_URL, else OpenAI", some, shared=True),
    Option("key-file", "", "FILE", "read the key from FILE; OPENAI_API_KEY", some, shared=True, file=READ),
    Option("param", "P", "NAME=VALUE", "a further field of the request, VALUE being JSON or a string; may be repeated",
           parameter, (), many=True, shared=True),
    Option("schema", "S", "SCHEMA", "structured output: fields as in 'name, age int, tags [str], tone good|bad', "
           "a JSON Schema, or @FILE", some, file="@"),
    Option("output", "o", "FIELD", "where the answer goes; a.b nests, . merges an object into the record",
           field, ("output",), place=True),
    Option("meta", "M", "FIELD", "also put model, usage, cost, latency and attempts there", own_field, place=True),
    Option("raw-input", "R", help='each line is text: the record is {"text": line}'),
    Option("raw-output", "r", help="print the answer alone: text as it is, anything else as JSON",
           excludes=(("meta", "-r prints the answer alone"),)),
    Option("done", "d", "FILE", "the done-file: answers are kept there, and what is there is not asked again", some,
           file=OWN),
    Option("once", help="what was rejected in an earlier run is not asked again", shared=True),
    Option("offline", help="replay only: call nothing", shared=True, needs=("done",)),
    Option("errors", "e", "FILE", "failed records, each with what went wrong; can be fed back in", some,
           file=WRITTEN),
    Option("unordered", "U", help="print each record as soon as it is answered, not in the order of the input"),
    Option("jobs", "j", "N", "calls in flight", whole(1, 10000), 8, shared=True),
    Option("timeout", "", "SECONDS", "of one call", number(0.001), 60.0, shared=True),
    Option("retries", "", "N", "further tries of one call", whole(0), 5, shared=True),
    Option("reask", "", "N", "asking again after an answer that does not fit", whole(0), 2, shared=True),
    Option("drain", "", "SECONDS", "how long calls in flight may finish after a signal; the timeout",
           number(0), shared=True),
    Option("max-errors", "", "N", "stop after N failed records; N%: of those so far, from the hundredth on",
           count_or_share, shared=True),
    Option("max-cost", "", "USD", "stop when this run has spent that; calls in flight may pass it", number(1e-9),
           shared=True),
    Option("prices", "", "FILE", "prices of models that are not known, or other ones, as JSON", some, shared=True,
           file=READ),
    Option("share", help="equal requests are one call (needs -d)", needs=("done",)),
    Option("summary", "", "FILE", "what the run came to, as JSON", some, file=WRITTEN),
    Option("log", "", "FILE", "add events to FILE, as JSON Lines", some, shared=True, file=WRITTEN),
    Option("progress", help="a progress line; on no terminal one a minute", shared=True),
    Option("no-progress", help="no progress line", shared=True),
    Option("quiet", "q", help="no warnings and no summary", shared=True),
    Option("verbose", "v", help="a line for every failed record, not for the first ten only", shared=True),
)
# fmt: on

ABOUT_ITSELF = (
    Option("help", help="print this and leave"),
    Option("version", help="print the version and leave"),
)
