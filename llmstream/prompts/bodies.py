"""A template and a record make a request: pure, and the same bytes every time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

from jinja2 import StrictUndefined, Template, Undefined, meta, nodes, pass_environment
from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError
from jinja2.filters import make_attrgetter
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmstream.records import exact
from llmstream.records.values import Failure, Record, Request
from llmstream.records.words import brief

Build = Callable[[Record], Request | Failure]


def as_text(value: Any) -> Any:
    """What `{{ value }}` puts in: text as it is, anything else as JSON."""
    return value if isinstance(value, (str, Undefined)) else _json(value)  # an undefined one complains when printed


def _json(value: Any) -> str:
    if isinstance(value, Iterator) and not isinstance(value, LoopContext):  # what map and select leave
        value = list(value)
    if isinstance(value, float) and not math.isfinite(value) and not isinstance(value, exact.Wide):
        raise ValueError(f"{value} is not JSON")  # of the template's own arithmetic; no record holds one
    return exact.dumps(value).decode()


class _Fields(ImmutableSandboxedEnvironment):
    """A sandbox in which a dot reaches a record's own field, and nothing else."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, LoopContext):  # loop.index and its like
            return super().getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Undefined):  # the field before the dot is what is missing
            return obj
        if isinstance(obj, (dict, list, str, tuple)):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        return self.undefined(hint=f"no field '{argument}'", obj=obj, name=argument)


@pass_environment
def _join(environment: _Fields, value: Any, d: str = "", attribute: str | None = None) -> str:
    """Jinja's join, but what is not text is put in as JSON here too."""
    found = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    return d.join(str(as_text(item)) for item in found)


def _environment() -> _Fields:
    made = _Fields(undefined=StrictUndefined, finalize=as_text, autoescape=False, keep_trailing_newline=True)
    made.globals.clear()
    made.filters.update(join=_join, tojson=_json, string=as_text)
    del made.filters["attr"]  # a way to what is no field
    del made.filters["random"]  # another request, and another bill, in every run
    return made


def template(
    source: str, whole: Callable[[Record], str] | None = None, constants: Mapping[str, Any] = MappingProxyType({})
) -> Callable[[Record], str]:
    """Compile a template; ValueError says what is wrong with it, and on which line.

    A template that uses no variable of the record is followed by the whole of it, where that is
    given. constants: what is the same for every record; record.NAME still reaches a field so called.
    """
    try:
        compiled, names = _compile(source.rstrip("\r\n"))
        names -= constants.keys()
        head = "" if names else _render(compiled, dict(constants))  # nothing in it depends on the record
    except Exception as error:  # noqa: BLE001 - a template may fail in any way; all of them are its author's to mend
        raise ValueError(explain(error)) from None
    if names:
        return lambda record: _render(compiled, {**record.data, "record": record.data, **constants})
    if whole is None:
        return lambda record: head
    return lambda record: f"{head}\n\n{whole(record)}" if head else whole(record)


def _render(compiled: Template, variables: dict[str, Any]) -> str:
    """As its own render() does, but that makes up a traceback for each failure, in a circle that only a collector
    can free."""
    return "".join(compiled.root_render_func(compiled.new_context(variables, shared=True)))


_OTHER_FILES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


def _compile(source: str) -> tuple[Template, set[str]]:
    """A template, and the names of the variables in it."""
    source.encode()  # a byte of the command line that is not UTF-8
    environment = _environment()
    tree = environment.parse(source)
    for other in tree.find_all(_OTHER_FILES):
        raise TemplateSyntaxError("a template cannot read other files", other.lineno)
    for name in tree.find_all(nodes.Name):
        if name.name == "self":
            raise TemplateSyntaxError("'self' is Jinja's own word: the field is record.self", name.lineno)
    for concat in tree.find_all(nodes.Concat):  # a ~ b would put in Python's idea of a text
        concat.nodes = [nodes.Filter(node, "string", [], [], None, None, lineno=node.lineno) for node in concat.nodes]
    compiled = environment.from_string(tree)
    compiled.globals = {}  # there are none; Jinja's own empty chain of them takes 3 us to copy for each record
    return compiled, meta.find_undeclared_variables(tree)


def builder(
    prompt: str,
    system: str | None,
    model: str,
    params: Mapping[str, Any],
    response_format: bytes | None = None,
    *,
    raw_text: bool = False,
    constants: Mapping[str, Any] = MappingProxyType({}),
) -> Build:
    """The function that makes a record's request: a body with its fields in one fixed order."""
    user_text = template(prompt, lambda record: record.data["text"] if raw_text else _json(record.data), constants)
    system_text = template(system, None, constants) if system is not None else None
    before = b'{"model":%b,"messages":[' % exact.dumps(model)
    after = b"]" + b"".join(b",%b:%b" % (exact.dumps(name), exact.dumps(params[name])) for name in sorted(params))
    after += b',"response_format":%b}' % response_format if response_format else b"}"

    def build(record: Record) -> Request | Failure:
        try:
            messages = _message("user", user_text(record))
            if system_text is not None:
                messages = b"%b,%b" % (_message("system", system_text(record)), messages)
        except Exception as error:  # noqa: BLE001 - a template may fail in any way; it is this record's failure
            return Failure("template", explain(error))
        body = b"%b%b%b" % (before, messages, after)
        return Request(body, digest(body), record.id, model)

    return build


def _message(role: str, text: str) -> bytes:
    return b'{"role":"%b","content":%b}' % (role.encode(), exact.dumps(text))


def explain(error: Exception) -> str:
    """What is wrong with a template, or with a record for it, in one line."""
    if isinstance(error.__cause__, UndefinedError):  # it stood in a list that was to become JSON
        error = error.__cause__
    if isinstance(error, UndefinedError):
        return re.sub(r"^('.*') is undefined$", r"no field \1", brief(str(error)))
    if isinstance(error, TemplateSyntaxError):
        return f"{brief(error.message or 'a syntax error')} (line {error.lineno})"
    if isinstance(error, SecurityError):
        return f"not allowed in a template: {brief(str(error))}"
    return f"the template does not work: {brief(str(error) or type(error).__name__)}"


def digest(body: bytes) -> str:
    return blake2b(body, digest_size=16).hexdigest()


# -- what changes a body on its way, and never its key -----------------------------------------

RUNGS = ("json_schema", "json_object with the schema", "json_object", "the schema in the prompt")


def lowered(body: bytes, rung: int) -> bytes:
    """The body as an endpoint takes it that refuses the forms of response_format above a rung."""
    if not rung:
        return body
    data = exact.loads(body)
    schema = data.pop("response_format")["json_schema"]["schema"]
    if rung == 1:
        data["response_format"] = {"type": "json_object", "schema": schema}
    if rung == 2:
        data["response_format"] = {"type": "json_object"}
    if rung > 1:
        demand = "Answer with one JSON object that fits this JSON Schema, and nothing else:\n"
        data["messages"][-1]["content"] += f"\n\n{demand}{exact.dumps(schema).decode()}"
    return exact.dumps(data)


def corrected(body: bytes, content: str, wrong: str) -> bytes:
    """The body that asks again: the answer that did not fit, and what was wrong with it."""
    data = exact.loads(body)
    data["messages"] += [
        {"role": "assistant", "content": content},
        {"role": "user", "content": f"That answer does not fit: {wrong}. Answer again, with the corrected JSON only."},
    ]
    return exact.dumps(data)
