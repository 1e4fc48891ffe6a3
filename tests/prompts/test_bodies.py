"""Templates and requests: what goes into a body, what can never get in, and keys that stay the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstream.prompts import bodies
from llmstream.prompts.bodies import RUNGS, builder, corrected, lowered, template
from llmstream.records import reading
from llmstream.records.values import Failure, Record, Request

RECORD = r"""{"id":"DS_1","text":"It's {{ n }} <b>\u00e9</b>","n":12345678901234567890123,"d":1.10000000000000000001,
 "whole":7,"half":0.5,"yes":true,"nothing":null,"tags":["a","b"],"mixed":["a",1,null,["x"]],"empty":"",
 "order":{"items":[1,2],"upper":"U","get":null},"people":[{"name":"An","age":1},{"name":"Bo"}],
 "self":"S","loop":"L","not":"N","record":"R","first name":"F","_private":"P","__class__":"C","range":"r"}"""


def record(line: str = RECORD, *, raw_text: bool = False) -> Record:
    found = reading.parse(line.replace("\n", "").encode(), "in:1", raw_text=raw_text)
    assert isinstance(found, Record), found
    return found


def request(source: str, line: str = RECORD, **more: Any) -> Request:
    found = builder(source, more.pop("system", None), "m", more.pop("params", {}), **more)(record(line))
    assert isinstance(found, Request), found
    return found


def content(source: str, line: str = RECORD, **more: Any) -> str:
    return json.loads(request(source, line, **more).body)["messages"][-1]["content"]


def failure(source: str, line: str = RECORD) -> str:
    found = builder(source, None, "m", {})(record(line))
    assert isinstance(found, Failure), found
    assert found.type == "template"
    return found.message


# -- what is put in --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # text as it is, never compiled, never escaped; anything else as JSON, to the last digit
        ("{{ text }}", "It's {{ n }} <b>é</b>"),
        ("{{ n }} {{ d }} {{ whole }} {{ half }}", "12345678901234567890123 1.10000000000000000001 7 0.5"),
        ("{{ yes }} {{ nothing }} [{{ empty }}]", "true null []"),
        ("{{ tags }} {{ mixed }}", '["a","b"] ["a",1,null,["x"]]'),
        ("{{ order }}", '{"items":[1,2],"upper":"U","get":null}'),
        ("{{ true }} {{ none }} {{ 1.0 }} {{ ['é', yes] }}", 'true null 1.0 ["é",true]'),
        ("{{ not yes }} {{ whole > 3 }} {{ whole + 1 }}", "false true 8"),
        ("{{ 'a' ~ nothing ~ tags ~ yes ~ n ~ d }}", 'anull["a","b"]true123456789012345678901231.10000000000000000001'),
        # a dot is a field and nothing else
        ("{{ order.items }} {{ order['items'] }} {{ order.upper }}", "[1,2] [1,2] U"),
        ("{{ order.get }}", "null"),
        ("{{ tags[0] }}{{ tags.1 }}{{ tags[-1] }} {{ text[:2] }} {{ tags[:1] }}", 'abb It ["a"]'),
        ("{{ _private }} {{ __class__ }} {{ range }}", "P C r"),
        # names that are awkward, and the record itself
        ("{{ loop }} {{ record.self }} {{ record['not'] }} {{ record['first name'] }}", "L S N F"),
        ("{{ record.record }} {{ record.text }}", "R It's {{ n }} <b>é</b>"),
        # statements
        ("{% for p in people %}{{ loop.index }}/{{ loop.length }}{{ p.name }} {% endfor %}", "1/2An 2/2Bo "),
        ("{% for t in tags %}{{ t }}{{ ', ' if not loop.last }}{% endfor %}{{ loop }}", "a, bL"),
        ("{% if yes and not nothing %}y{% else %}n{% endif %}", "y"),
        ("{% set x = tags %}{{ x }}", '["a","b"]'),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(nothing) }}{{ m(text) }}", "<null><It's {{ n }} <b>é</b>>"),
        ("{{ none if false else yes }} {# a comment #}{% raw %}{{ yes }}{% endraw %}", "true {{ yes }}"),
        # filters
        ("{{ tags|join(', ') }} {{ mixed|join('/') }}", 'a, b a/1/null/["x"]'),
        ("{{ people|join(', ', attribute='name') }}", "An, Bo"),
        ("{{ people|map(attribute='name')|join }} {{ people|map(attribute='name') }}", 'AnBo ["An","Bo"]'),
        ("{{ mixed|select('string') }} {{ mixed|select('string')|list }}", '["a"] ["a"]'),
        ("{{ people|selectattr('age', 'defined')|map(attribute='name')|first }}", "An"),
        (
            "{{ text|tojson }} {{ nothing|tojson }} {{ n|tojson }}",
            '"It\'s {{ n }} <b>é</b>" null 12345678901234567890123',
        ),
        ("{{ tags|map('upper')|tojson }} {{ order|tojson }}", '["A","B"] {"items":[1,2],"upper":"U","get":null}'),
        ("{{ text|upper }} {{ tags|length }} {{ text|length }}", "IT'S {{ N }} <B>É</B> 2 21"),
        ("{{ nothing|string }} {{ order.items|string }} {{ yes|string|upper }}", "null [1,2] TRUE"),
        ("{{ order|items }} {{ tags|reverse }}", '[["items",[1,2]],["upper","U"],["get",null]] ["b","a"]'),
        # what is missing may be asked for
        ("{{ gone|default('d') }} {{ gone.deeper|default('e') }} {{ nothing|default('f') }}", "d e null"),
        ("{{ gone is defined }} {{ text is defined }} {{ order.gone is defined }}", "false true false"),
        ("{% if gone is defined %}{{ gone }}{% else %}none{% endif %}", "none"),
    ],
)
def test_what_is_put_in(source: str, expected: str) -> None:
    assert content(source) == expected


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{{ gone }}", "gone"),
        ("{{ text }}{{ gone }}", "gone"),
        ("{{ gone.deeper.still }}", "gone"),
        ("{{ order.gone }}", "gone"),
        ("{{ order['gone'] }}", "gone"),
        ("{{ nothing.gone }}", "gone"),
        ("{{ tags[9] }}", "9"),
        ("{{ tags.gone }}", "gone"),
        ("{% for p in people %}{{ p.age }}{% endfor %}", "age"),
        ("{% for p in gone %}{{ p }}{% endfor %}", "gone"),
        ("{% if gone %}{% endif %}", "gone"),
        ("{{ gone|upper }}", "gone"),
        ("{{ gone|length }}", "gone"),
        ("{{ gone|tojson }}", "gone"),
        ("{{ gone|string }}", "gone"),
        ("{{ gone|join }}", "gone"),
        ("{{ [gone] }}", "gone"),
        ("{{ {'a': gone}|tojson }}", "gone"),
        ("{{ 'a' ~ gone }}", "gone"),
        ("{{ people|map(attribute='age')|join }}", "age"),
        ("{{ people|map(attribute='age')|list }}", "age"),
        ("{{ people|map(attribute='age') }}", "age"),
        ("{{ people|join(',', attribute='age') }}", "age"),
        # methods and attributes are missing fields
        ("{{ text.upper }}", "upper"),
        ("{{ text.upper() }}", "upper"),
        ("{{ text.format(1) }}", "format"),
        ("{{ tags.append(1) }}", "append"),
        ("{{ record.items() }}", "items"),
        ("{{ text.__class__ }}", "__class__"),
        ("{{ text['__class__'] }}", "__class__"),
        ("{{ tags|map(attribute='__class__')|list }}", "__class__"),
        # no globals
        ("{{ dict(a=1) }}", "dict"),
        ("{{ lipsum() }}", "lipsum"),
        ("{{ cycler('a') }}", "cycler"),
        ("{{ joiner() }}", "joiner"),
        ("{{ namespace() }}", "namespace"),
        ("{{ caller() }}", "caller"),
        ("{{ super() }}", "super"),
        ("{{ __builtins__ }}", "__builtins__"),
    ],
)
def test_what_is_missing_fails_by_name(source: str, name: str) -> None:
    assert name in failure(source).replace("'", " ").split()


@pytest.mark.parametrize(
    "source",
    [
        "{% for t in tags %}{{ loop.__class__ }}{% endfor %}",
        "{% for t in tags %}{{ loop._iterator }}{% endfor %}",
        "{% for t in tags %}{{ loop }}{% endfor %}",
        "{% macro m() %}{{ tags }}{% endmacro %}{{ m }}",
        "{{ whole / 0 }}",
        "{{ nothing|join }}",
        "{{ text + 1 }}",
        "{{ n + 1 }}",  # beyond 64 bits, and no longer as it was written
        "{{ n * half * 1e300 }}",  # infinite: never null
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}{{ text }}",
    ],
)
def test_what_does_not_work_fails_the_record(source: str) -> None:
    assert len(failure(source)) < 400


def test_a_format_string_reaches_no_attribute() -> None:
    assert content("{{ '%s'|format(text) }}") == "It's {{ n }} <b>é</b>"
    assert failure("{{ '{0.__class__}'.format(text) }}") == "no field 'format'"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{", "line 1"),
        ("one\ntwo {{ text ", "line 2"),
        ("\n\n{% if %}", "line 3"),
        ("{% for x in y %}", "line 1"),
        ("{{ text|nofilter }}", "nofilter"),
        ("{{ text is notest }}", "notest"),
        ("{% unknown %}", "unknown"),
        ("{{ tags|random }}", "random"),  # another key in every run
        ("{% include '/etc/passwd' %}", "other files (line 1)"),
        ("a\n{% import 'x' as y %}", "other files (line 2)"),
        ("{% from 'x' import y %}", "other files"),
        ("{% extends text %}", "other files"),
        ("{{ self.body }}", "record.self"),
        ("{{ ''.__class__ }}", "no field '__class__'"),
        ("{{ text|attr('__class__') }}", "attr"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 1e308 * 10 }}", "not"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "recursion"),
        ("{% for a in b %}" * 25 + "{% endfor %}" * 25, "nested"),
        ("not UTF-8: \udcff", "utf-8"),
    ],
)
def test_what_does_not_compile_is_told_before_anything_is_read(source: str, said: str) -> None:
    with pytest.raises(ValueError) as told:
        template(source)
    assert said in str(told.value)
    assert len(str(told.value)) < 400
    assert "\n" not in str(told.value)


@settings(deadline=None)
@given(st.text("{}% abc|.~'\"()[]\n-+for in endfor if") | st.text())
def test_any_template_compiles_or_says_why(source: str) -> None:
    try:
        render = builder(source, None, "m", {})
    except ValueError:
        return
    assert isinstance(render(record('{"a":"x","b":[1]}')), Request | Failure)


# -- newlines, and the record behind a prompt without variables -------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Sum up: {{ text }}\n\n", "Sum up: x\n"),
        ("Sum up: {{ text }}\r\n", "Sum up: x\n"),
        ("\nSum up:\r\n{{ text }}", "\nSum up:\nx\n"),
        ("{{ text }}{{ text }}", "x\nx\n"),
        ("Translate", 'Translate\n\n{"text":"x\\n","n":1}'),
        ("Translate\n", 'Translate\n\n{"text":"x\\n","n":1}'),
        ("", '{"text":"x\\n","n":1}'),
        ("{% set a = 1 %}{{ a }}{# {{ text }} #}", '1\n\n{"text":"x\\n","n":1}'),
    ],
)
def test_newlines_and_the_record_behind(source: str, expected: str) -> None:
    assert content(source, '{ "text" : "x\\n" , "n":1}') == expected


def test_behind_a_prompt_without_variables_stands_the_text_of_a_raw_line() -> None:
    build = builder("Translate", None, "m", {}, raw_text=True)
    found = build(record("a {{ b }} c", raw_text=True))
    assert isinstance(found, Request)
    assert json.loads(found.body)["messages"] == [{"role": "user", "content": "Translate\n\na {{ b }} c"}]


def test_a_system_message_is_a_template_too_and_the_record_is_not_behind_it() -> None:
    body = json.loads(request("Translate", '{"a":1}', system="Be {{ a }}.\n").body)
    assert body["messages"] == [
        {"role": "system", "content": "Be 1."},
        {"role": "user", "content": 'Translate\n\n{"a":1}'},
    ]
    assert json.loads(request("{{ a }}", '{"a":1}', system="Be brief.").body)["messages"][0]["content"] == "Be brief."


# -- keys --------------------------------------------------------------------------------------------

FORMAT = (
    b'{"type":"json_schema","json_schema":{"name":"answer","strict":true,"schema":{"type":"object",'
    b'"properties":{"tone":{"type":"string"},"age":{"type":"integer"}},"required":["tone","age"],'
    b'"additionalProperties":false}}}'
)


KEPT = '{"a":"é\\n","n":12345678901234567890123,"o":{"x":[1,1.50,null]}}'


@pytest.mark.parametrize(
    ("source", "more", "key"),
    [
        ("Sum up: {{ a }}", {}, "41a73d1ae92ac0a7dcf22d6ed044adb8"),
        (
            "Translate",
            {"system": "Be {{ n }}.", "params": {"top_p": 0.5, "seed": 7}},
            "08bbc4f7ee0446e8843b0f17a0bff53d",
        ),
        ("{{ n }} {{ o }}", {"response_format": FORMAT}, "f61939465f3bb4c7885d58fc43f4d121"),
    ],
)
def test_keys_never_change(source: str, more: dict[str, Any], key: str) -> None:
    """Another digest here means that every done-file there is has to be paid for again."""
    assert request(source, KEPT, **more).key == key


def test_the_bytes_of_a_body() -> None:
    body = request(
        "{{ a }}", '{"a":"é\\"\\n"}', system="s", params={"top_p": 0.5, "seed": 1}, response_format=FORMAT
    ).body
    expected = (
        '{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"é\\"\\n"}],'
        '"seed":1,"top_p":0.5,"response_format":'
    )
    assert body == expected.encode() + FORMAT + b"}"


def test_what_changes_a_key_and_what_does_not() -> None:
    key = request("{{ a }}", '{"a":1,"b":2}').key
    assert len(key) == 32
    for same in ('{"a":1}', '{ "b" : 3 , "a" : 1 }', '{"a":1,"b":{"c":[]},"id":9}'):
        assert request("{{ a }}", same).key == key
    assert request("{{ a }}\n", '{"a":1}').key == key
    for source, line in (("{{ a }}", '{"a":2}'), ("{{ a }}.", '{"a":1}'), ("{{ a|tojson }} ", '{"a":1}')):
        assert request(source, line).key != key
    assert request("{{ a }}", '{"a":1}', system="s").key != key
    assert request("{{ a }}", '{"a":1}', params={"seed": 1}).key != key
    assert builder("{{ a }}", None, "n", {})(record('{"a":1}')) != request("{{ a }}", '{"a":1}')


def test_the_order_of_parameters_does_not_matter_and_that_of_a_schema_does() -> None:
    one, other = {"seed": 1, "top_p": 1}, {"top_p": 1, "seed": 1}
    assert request("{{ text }}", params=one).key == request("{{ text }}", params=other).key
    schema = b'{"type":"json_schema","json_schema":{"schema":{"properties":{%b,%b}}}}'
    a, b = b'"a":{"type":"string"}', b'"b":{"type":"string"}'
    keys = {request("{{ text }}", response_format=schema % pair).key for pair in ((a, b), (b, a))}
    assert len(keys) == 2


def test_a_request_knows_its_record() -> None:
    assert [request("x", f'{{"id":{told}}}').id for told in ('"q"', "7", "true", "null", "1.5", "[1]")] == (
        ["q", 7, None, None, None, None]
    )


# -- what changes a body on its way -----------------------------------------------------------------

SCHEMA = json.loads(FORMAT)["json_schema"]["schema"]
BODY = request("{{ n }}", params={"seed": 12345678901234567890}, response_format=FORMAT).body


def test_lowered() -> None:
    assert lowered(BODY, 0) == BODY
    whole = json.loads(BODY)
    bodies = [json.loads(lowered(BODY, rung)) for rung in range(len(RUNGS))]
    assert [body.get("response_format") for body in bodies] == [
        json.loads(FORMAT),
        {"type": "json_object", "schema": SCHEMA},
        {"type": "json_object"},
        None,
    ]
    assert bodies[1]["messages"] == whole["messages"]
    for body in bodies[2:]:
        text = body["messages"][-1]["content"]
        assert text.startswith(whole["messages"][-1]["content"] + "\n\n")
        assert json.loads(text.splitlines()[-1]) == SCHEMA
        assert "JSON" in text  # OpenAI demands the word with json_object
        assert list(json.loads(text.splitlines()[-1])["properties"]) == ["tone", "age"]
    assert all(b'"seed":12345678901234567890' in lowered(BODY, rung) for rung in range(4))


def test_corrected() -> None:
    body = corrected(BODY, "{\n", 'age: "x" is not an integer')
    messages = json.loads(body)["messages"]
    assert messages[:1] == json.loads(BODY)["messages"]
    assert messages[1] == {"role": "assistant", "content": "{\n"}
    assert messages[2]["role"] == "user"
    assert 'age: "x" is not an integer' in messages[2]["content"]
    assert json.loads(lowered(body, 3))["messages"][1] == messages[1]
    assert bodies.digest(body) != bodies.digest(BODY)
