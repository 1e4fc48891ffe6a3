"""What calls cost, beside what genai-prices itself says of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from genai_prices import data_snapshot
from genai_prices.types import PriceCalculation, StartDateConstraint
from hypothesis import given, settings
from hypothesis import strategies as st
from tool import TOP, environment

from llmstream.calls import prices
from llmstream.calls.prices import Price, Prices, cost
from llmstream.records.values import Usage
from llmstream.shell.messages import FIX_FIRST, Stop

OPENAI = "https://api.openai.com/v1"
AZURE = "https://ours.openai.azure.com/openai"
GATEWAY = "http://127.0.0.1:4000/v1"
MINI = "gpt-5.4-mini"


def flat(into: float, cached: float, out: float) -> Price:
    return Price(((0, into),), ((0, cached),), ((0, out),))


# -- what a call costs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        (Usage(0, 0), 0.0),
        (Usage(100, 120), 0.000615),
        (Usage(100, 120, reasoning=100), 0.000615),  # part of the output
        (Usage(100, 0, cached=100), 7.5e-06),
        (Usage(100, 0, cached=1000), 7.5e-06),  # an endpoint that cannot count
        (Usage(1_000_000, 1_000_000), 5.25),
        (Usage(1, 0), 7.5e-07),
    ],
)
def test_cost(usage: Usage, usd: float) -> None:
    assert cost(flat(0.75, 0.075, 4.5), usage) == usd


def test_a_longer_input_has_the_higher_rate_for_all_of_it() -> None:
    price = Price(((0, 1.0), (1000, 2.0), (2000, 3.0)), ((0, 0.5), (1000, 1.0)), ((0, 4.0), (1000, 8.0)))
    assert cost(price, Usage(1000, 1000)) == 0.005
    assert cost(price, Usage(1001, 1000)) == 0.010002
    assert cost(price, Usage(2001, 0)) == 0.006003
    assert cost(price, Usage(1001, 0, cached=1001)) == 0.001001


@given(st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**7))
def test_a_cost_has_no_long_tail(into: int, out: int, cached: int) -> None:
    shown = json.dumps(cost(flat(0.75, 0.075, 4.5), Usage(into, out, cached)))
    assert len(shown) <= len("123.0000000005")


def test_what_is_free_is_not_unknown() -> None:
    assert cost(flat(0, 0, 0), Usage(10**6, 10**6)) == 0.0
    free = Prices(GATEWAY, ["ours"], {"ours": flat(0, 0, 0)})
    assert free.known("ours")
    assert free.cost("ours", "ours", None, Usage(1, 1)) == 0.0
    assert free.cost("ours", "ours", None, None) is None  # nobody said what it took


# -- prices of one's own --------------------------------------------------------------------------


def test_a_file_of_prices(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(
        '{"a": {"input": 0.25, "output": 2, "cached": 0.025}, "b": {"output": 1e-1, "input": 0},'
        ' "": {"input": 1, "output": 1}}'
    )
    assert prices.read(str(path)) == {"a": flat(0.25, 0.025, 2), "b": flat(0, 0, 0.1), "": flat(1, 1, 1)}
    path.write_text("{}")
    assert prices.read(str(path)) == {}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "not JSON: "),
        ("{\n'a': 1}", "not JSON: unexpected character, expected a string key (line 2, column 1)"),
        ('{"a": {"input": NaN, "output": 1}}', "not JSON: "),
        ('{"a": {"input": 1e999, "output": 1}}', ""),
        ('{"a": {"input": 1' + "0" * 400 + ', "output": 1}}', "number out of range"),
        ("[]", 'an object is wanted, {"model": {"input": 0.25, "output": 2}}'),
        ('"a"', "an object is wanted"),
        ('{"a": 1}', "a: an object with input and output is wanted"),
        ('{"a": [1, 2]}', "a: an object with input and output is wanted"),
        ('{"a": {"output": 1}}', "a: no price for input"),
        ('{"a": {"input": 1, "cached": 1}}', "a: no price for output"),
        ('{"a": {"input": -1, "output": 1}}', "a: input wants USD for a million tokens, a number, 0 or more"),
        ('{"a": {"input": 1, "output": "2"}}', "a: output wants USD"),
        ('{"a": {"input": 1, "output": true}}', "a: output wants USD"),
        ('{"a": {"input": 1, "output": 1, "cached": null}}', "a: cached wants USD"),
        ('{"a": {"input": 1, "output": 1, "cache": 1}}', "a: no such price cache: input, output or cached"),
        ('{"a": {"input": 1, "output": 1}, "a": {"input": 2, "output": 1}}', "a name stands there twice"),
        ('{"a": {"input": 1, "output": 1, "input": 2}}', "a name stands there twice"),
        ('{"": 1}', '"": an object'),
        ('{"' + "a\\n" * 200 + '": 1}', "...: an object"),
    ],
)
def test_a_bad_file_is_one_line_that_says_why(tmp_path: Path, text: str, wrong: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(Stop) as stop:
        prices.read(str(path))
    assert stop.value.status == FIX_FIRST
    assert stop.value.reason.startswith(f"cannot use the prices in {path}: ")
    assert wrong in stop.value.reason
    assert "\n" not in stop.value.reason
    assert len(stop.value.reason) < len(str(path)) + 200


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Stop, match=r"^cannot read prices .*none: No such file or directory$"):
        prices.read(str(tmp_path / "none"))
    with pytest.raises(Stop, match=r"^cannot read prices .*: Is a directory$"):
        prices.read(str(tmp_path))
    (tmp_path / "latin").write_bytes(b'{"\xe9": 1}')
    with pytest.raises(Stop, match=r"^cannot read prices .*latin: it is not UTF-8$"):
        prices.read(str(tmp_path / "latin"))


# -- beside genai-prices itself -------------------------------------------------------------------

TIERS = (None, "default", "flex", "batch", "priority", "fast", "unheard-of")
URLS = {
    "openai": OPENAI,
    "azure": AZURE,
    "anthropic": "https://api.anthropic.com/v1",
    "google": "https://generativelanguage.googleapis.com/v1beta/openai/",
    "mistral": "https://api.mistral.ai/v1",
    "x-ai": "https://api.x.ai/v1",
    "groq": "https://api.groq.com/openai/v1",
    "perplexity": "https://api.perplexity.ai",
}


def calculated(url: str, model: str, usage: Usage, tier: str | None) -> PriceCalculation:
    tokens = genai_prices.Usage(
        input_tokens=usage.input, cache_read_tokens=usage.cached, output_tokens=usage.output
    )  # fmt: skip
    context = {"processing" if tier == "batch" else "service_tier": tier} if tier else {}
    return genai_prices.calc_price(tokens, model, provider_api_url=url, price_context=context)


def wanted(url: str, model: str, usage: Usage, tier: str | None) -> float | None:
    """What the package says, with our rules where it says nothing."""
    try:
        found = calculated(url, model, usage, tier)
    except LookupError:  # what a model is called in the list need not be a name that calls have
        return None
    price = found.model_price
    if price.input_mtok is None or price.output_mtok is None:
        return None
    if price.requests_kcount is not None or price.output_reasoning_mtok is not None:
        return None
    if tier in (None, "default") or _has_variant(found, str(tier)):
        return float(found.total_price)
    return float(found.total_price) / 2 if tier in ("flex", "batch") else None


def _has_variant(found: PriceCalculation, tier: str) -> bool:
    if not any(found.model is model for model in found.provider.models):
        return False
    whens = [
        v.when for v in found.model.price_variants or () if not v.constraint or v.constraint.active(datetime.now(UTC))
    ]
    return {"service_tier": tier} in whens or {"processing": tier} in whens


def of_provider(name: str) -> list[str]:
    """Its models, but for those whose price depends on the time of day."""
    models = next(p for p in data_snapshot.get_snapshot().providers if p.id == name).models
    steady = [
        m
        for m in models
        if not isinstance(m.prices, list) or all(isinstance(p.constraint, StartDateConstraint | None) for p in m.prices)
    ]
    return [model.id for model in steady]


@cache
def listed(url: str) -> tuple[list[str], Prices]:
    """All the models of an endpoint, looked up by one child."""
    (provider,) = (name for name, its_url in URLS.items() if its_url == url)
    others = [MINI, f"{MINI}-2026-03-17", "claude-sonnet-4-5"] if provider == "azure" else []
    names = [*of_provider(provider), *others]
    return names, Prices(url, names, {})


def same(found: float | None, right: float | None) -> bool:
    return found == right if found is None or right is None else found == pytest.approx(right, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_every_model_costs_what_the_package_says(url: str) -> None:
    names, run = listed(url)
    known = 0
    for name in names:
        for tier in TIERS:
            for usage in (Usage(812, 64), Usage(812, 64, 500), Usage(250_000, 1000, 100_000), Usage(10**6, 10)):
                found = run.cost(name, name, tier, usage)
                assert same(found, wanted(url, name, usage, tier)), (name, tier, usage)
                known += found is not None
    assert known > 100


@given(st.data())
@settings(deadline=None)
def test_any_usage_of_any_model(data: st.DataObject) -> None:
    url = data.draw(st.sampled_from(list(URLS.values())))
    names, run = listed(url)
    name = data.draw(st.sampled_from(names))
    tier = data.draw(st.sampled_from(TIERS))
    into = data.draw(
        st.integers(0, 3000) | st.sampled_from([200_000, 200_001, 272_000, 272_001]) | st.integers(0, 10**6)
    )
    usage = Usage(into, data.draw(st.integers(0, 10**5)), data.draw(st.integers(0, into)))
    assert same(run.cost(name, name, tier, usage), wanted(url, name, usage, tier))


def test_some_of_them_have_tiers_and_some_none() -> None:
    """Else the tests above would not say much."""
    every = [run.of(name, name, tier) for names, run in map(listed, URLS.values()) for name in names for tier in TIERS]
    assert sum(len(price.input) > 1 for price in every if price) > 20
    assert every.count(None) > 100


def test_a_tier_costs_what_it_does_from_its_day_on() -> None:
    snapshot = data_snapshot.get_snapshot()
    variants = snapshot.find_provider_model(MINI, None, "openai", None)[1].price_variants or ()
    days = [v.constraint.start_date for v in variants if isinstance(v.constraint, StartDateConstraint)]
    assert days
    now, before = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (max(days), min(days) - timedelta(1)))
    assert prices._tiers_of(snapshot, MINI, OPENAI, now).keys() == {"default", "flex", "batch", "priority", "fast"}
    assert prices._tiers_of(snapshot, MINI, OPENAI, before).keys() == {"default", "flex", "batch"}


def test_names_of_the_usual_tier() -> None:
    run = Prices(OPENAI, [MINI], {})
    usual = run.of(MINI, MINI, None)
    assert usual
    assert {run.of(MINI, MINI, tier) for tier in ("", "auto", "default", "standard", "on_demand")} == {usual}


def test_the_tier_that_was_requested_counts_where_the_reply_names_none() -> None:
    run = Prices(OPENAI, [MINI], {}, "flex")
    assert run.of(MINI, MINI, None) == run.of(MINI, MINI, "flex") != run.of(MINI, MINI, "default")


# -- under which name -----------------------------------------------------------------------------


def test_a_gateway_has_the_price_of_what_it_serves() -> None:
    there = Prices(GATEWAY, [MINI], {})
    there.start()
    assert there.of(MINI, MINI, None) == Prices(OPENAI, [MINI], {}).of(MINI, MINI, None)


def test_a_password_in_the_url_changes_nothing() -> None:
    url = OPENAI.replace("//", "//me:secret@").replace("openai", "OpenAI")
    assert Prices(url, [MINI], {}).known(MINI)
    assert not Prices(url, ["claude-sonnet-4-5"], {}).known("claude-sonnet-4-5")  # it is known whom we ask
    assert Prices("https://[", [MINI], {}).known(MINI)


def test_who_replies_under_another_name() -> None:
    dated = f"{MINI}-2026-03-17"
    run = Prices(AZURE, ["our-deployment", MINI], {})
    price = run.of(MINI, MINI, None)
    assert price
    assert run.of(dated, MINI, None) == run.of("gpt-4o", MINI, None) == price  # what was asked for is known
    assert run.of(dated, "our-deployment", None) == price  # it is not
    assert run.of("our-deployment", "our-deployment", None) is None
    assert not run.known("our-deployment")


@pytest.mark.parametrize(
    "name",
    ["sim", "", "nobody/knows-this", "gpt-99", "x" * 100_000, "\ud800", "a\0b", "voyage-3"],
    ids=["sim", "empty", "unheard of", "like another", "long", "half a character", "nought", "no output"],
)
def test_an_unknown_model_has_no_price(name: str) -> None:
    run = Prices(GATEWAY, [name], {})
    assert run.of(name, name, None) is None
    assert run.cost(name, name, "batch", Usage(1, 1)) is None
    assert not run.known(name)


def test_own_prices_come_first() -> None:
    ours, other = flat(1, 1, 1), flat(2, 2, 2)
    run = Prices(OPENAI, [MINI, "served"], {MINI: ours, "served": other})
    assert run.of(MINI, "served", None) == ours
    assert run.of("gpt-4o", "served", "flex") == other
    assert run.of("gpt-4o-mini", MINI, "priority") == ours


def test_no_price_for_what_is_billed_by_more_than_tokens() -> None:
    assert not Prices("https://api.perplexity.ai", ["sonar"], {}).known("sonar")


def test_free_models_of_openrouter() -> None:
    snapshot = data_snapshot.get_snapshot().providers
    names = [m.id for p in snapshot if p.id == "openrouter" for m in p.models if m.id.endswith(":free")][:5]
    assert names
    run = Prices("https://openrouter.ai/api/v1", names, {})
    assert [run.cost(name, name, None, Usage(10, 10)) for name in names] == [0.0] * len(names)


# -- the child ------------------------------------------------------------------------------------

# A stand-in for the package, which counts how often it is loaded.
COUNTED = "import os; os.write(os.open({file!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), b'loaded\\n')\n"
KNOWS_NOBODY = """
class _Empty:
    def find_provider(self, *_): raise LookupError
    find_provider_model = find_provider
class data_snapshot:
    get_snapshot = _Empty
"""
Stub = Callable[[str], Callable[[], int]]


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Puts another genai_prices first on our path, and so on the child's; what comes back says how often it ran."""

    def put(text: str) -> Callable[[], int]:
        package, count = tmp_path / "stub" / "genai_prices", tmp_path / "count"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(COUNTED.format(file=str(count)) + text)
        monkeypatch.syspath_prepend(str(package.parent))
        return lambda: count.read_text().count("loaded") if count.exists() else 0

    return put


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


def children() -> set[str]:
    """Processes of ours, dead ones that nobody asked about included; only Linux tells."""
    tasks = Path("/proc/self/task")
    return {pid for task in tasks.glob("*/children") for pid in task.read_text().split()}


@pytest.mark.parametrize(
    "text",
    [
        "raise ImportError('no such thing')",
        "raise SystemExit(0)",
        "import os; os._exit(0)",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import os; os.write(1, b'oops'); os._exit(0)",
        "import os; os.write(1, b'[1]'); os._exit(0)",
        'import os; os.write(1, b\'{"gpt-5.4-mini": {"default": [[[0, 1]]]}}\'); os._exit(0)',
        "import os; os.write(1, b'{\"gpt-5.4-mini\": 5}'); os._exit(0)",
        "import sys; print('oops', file=sys.stderr); print('oops', flush=True)",
    ],
)
def test_a_child_that_fails_leaves_everything_unknown(stub: Stub, capfd: pytest.CaptureFixture[str], text: str) -> None:
    count = stub(text)
    run = Prices(OPENAI, [MINI], {"ours": flat(1, 1, 1)})
    run.start()
    assert run.of(MINI, MINI, None) is None
    assert run.of("gpt-4o", "gpt-4o-mini", None) is None
    assert run.known("ours")
    assert count() == 1  # no use in trying again
    run.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("python", ["no/such/python", "", os.devnull, "a\0b"])
def test_no_child_can_be_started(monkeypatch: pytest.MonkeyPatch, python: str) -> None:
    monkeypatch.setattr(sys, "executable", python)
    run = Prices(OPENAI, [MINI], {})
    run.start()
    assert not run.known(MINI)
    run.close()


def test_a_child_that_hangs_is_not_waited_for_for_ever(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "LONGEST", 0.3)
    stub("import time; time.sleep(60)")
    run = Prices(OPENAI, [MINI], {})
    began = time.monotonic()
    assert run.of(MINI, MINI, None) is None
    assert time.monotonic() - began < 30


def test_close_ends_a_child_and_does_not_wait_for_it(stub: Stub) -> None:
    stub("import time; time.sleep(60)")
    run = Prices(OPENAI, [MINI], {})
    run.start()
    began = time.monotonic()
    run.close()
    run.close()
    run.start()
    assert run.of(MINI, MINI, None) is None
    assert time.monotonic() - began < 30


def test_close_before_anything() -> None:
    run = Prices(OPENAI, [MINI], {})
    run.close()
    assert not run.known(MINI)


def test_what_need_not_be_looked_up_starts_nothing(stub: Stub) -> None:
    count = stub(KNOWS_NOBODY)
    run = Prices(OPENAI, ["ours", "sim"], {"ours": flat(1, 1, 1)})
    run.start()
    assert run.known("ours")
    assert not run.known("sim")
    assert run.of("anything", "ours", None)
    assert run.of("", "sim", None) is None
    assert run.of("x" * 201, "sim", None) is None
    run.close()
    assert count() == 0


def test_one_child_for_all_models_of_the_run(stub: Stub) -> None:
    count = stub(KNOWS_NOBODY)
    run = Prices(OPENAI, ["a", "b", "a"], {})
    run.start()
    run.start()
    for _ in range(3):
        assert run.of("b", "a", None) is None
    assert count() == 1


def test_an_endpoint_with_a_new_name_each_time(stub: Stub) -> None:
    count = stub(KNOWS_NOBODY)
    run = Prices(OPENAI, ["a"], {})
    run.start()
    for n in range(3 * prices.FURTHER):
        assert run.of(f"new-{n}", "a", None) is None
        assert run.of("new-0", "a", None) is None
    assert count() == 1 + prices.FURTHER


def test_what_the_child_is_told(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret on its command line, which everybody can read, and no more in its environment than has to be."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    told = str(tmp_path / "told")
    stub(
        f"import sys, os\nwith open({told!r}, 'w') as file:\n"
        "    print(sys.orig_argv, dict(os.environ), os.getsid(0), file=file)"
    )
    run = Prices("https://me:hidden@api.example/v1/hidden?key=hidden", ["hidden"], {})
    assert not run.known("hidden")
    text = Path(told).read_text()
    assert "hidden" not in text
    assert "PYTHONWARNINGS" not in text
    assert f" {os.getsid(0)}\n" not in text


def test_nothing_in_the_current_directory_is_run(tmp_path: Path) -> None:
    for name in ("json", "genai_prices", "sys", "signal", "orjson", "fold"):
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(9)\n")
    assert alone("print(run.known(MINI))", cwd=tmp_path).stdout == b"True\n"


# -- a run of its own -----------------------------------------------------------------------------


def alone(code: str, *, wrap: Sequence[str] = (), **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run this in a process that knows prices and nothing else, as a tool does: its own folder first on the path."""
    begin = f"""
import os, signal, sys
before = set(sys.modules)
sys.path.insert(0, {str(TOP)!r})
from llmstream import prices
loaded = set(sys.modules) - before
MINI = {MINI!r}
run = prices.Prices({OPENAI!r}, [MINI], {{}})
"""
    command = [*wrap, sys.executable, "-P", "-c", begin + code]
    return subprocess.run(command, capture_output=True, env=environment(), timeout=60, check=False, **more)


def test_importing_it_costs_little() -> None:
    loaded = set(alone("print(*loaded)").stdout.decode().split())
    assert "llmstream.calls.prices" in loaded
    assert not {name.partition(".")[0] for name in loaded} & {
        "genai_prices",
        "pydantic",
        "subprocess",
        "asyncio",
        "urllib",
    }


def test_a_signal_to_the_group_does_not_reach_the_child() -> None:
    code = """
signal.signal(signal.SIGINT, lambda *_: None)
run.start()
os.killpg(0, signal.SIGINT)
print(run.known(MINI))
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
"""
    done = alone(code, start_new_session=True)
    assert (done.stdout, done.stderr) == (b"True\nno child\n", b"")


def test_where_nobody_asks_after_children() -> None:
    """SIGCHLD may have been ignored by whoever started us: children are gone before they can be waited for."""
    done = alone("signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nprint(run.known(MINI))\nrun.close()")
    assert (done.stdout, done.stderr) == (b"True\n", b"")


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_no_network(tmp_path: Path) -> None:
    calls = "trace=network,alarm,setitimer,execve"
    wrap = ["strace", "-f", "-qq", "-o", str(tmp_path / "calls"), "-e", calls]
    assert alone("run.start()\nprint(run.known(MINI))", wrap=wrap).stdout == b"True\n"
    seen = (tmp_path / "calls").read_text()
    assert seen.count("execve(") >= 2
    assert re.search(r"alarm\(10\)|setitimer\(", seen)  # it ends by itself, whatever becomes of us
    assert not re.search(r"socket|connect|sendto", seen)
