"""What calls cost, beside what genai-prices itself says of them."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import genai_prices
import make_price_table
import pytest
from genai_prices import data_snapshot
from genai_prices.types import (
    ClauseAnd,
    ClauseOr,
    ModelInfo,
    PriceCalculation,
    Provider,
    StartDateConstraint,
    TimeOfDateConstraint,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tool import TOP, environment

from llmstream.calls import price_table, prices
from llmstream.calls.price_table import Price, Tiers
from llmstream.calls.prices import Prices, cost
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
    free = Prices(GATEWAY, {"ours": flat(0, 0, 0)})
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
        ("[]", 'they must be an object, {"model": {"input": 0.25, "output": 2}}'),
        ('"a"', "they must be an object"),
        ('{"a": 1}', "a: must be an object with input and output"),
        ('{"a": [1, 2]}', "a: must be an object with input and output"),
        ('{"a": {"output": 1}}', "a: no price for input"),
        ('{"a": {"input": 1, "cached": 1}}', "a: no price for output"),
        ('{"a": {"input": -1, "output": 1}}', "a: input must be USD for a million tokens, a number, 0 or more"),
        ('{"a": {"input": 1, "output": "2"}}', "a: output must be USD"),
        ('{"a": {"input": 1, "output": true}}', "a: output must be USD"),
        ('{"a": {"input": 1, "output": 1, "cached": null}}', "a: cached must be USD"),
        ('{"a": {"input": 1, "output": 1, "cache": 1}}', "a: no such price cache: input, output or cached"),
        ('{"a": {"input": 1, "output": 1}, "a": {"input": 2, "output": 1}}', "a name is repeated"),
        ('{"a": {"input": 1, "output": 1, "input": 2}}', "a name is repeated"),
        ('{"": 1}', '"": must be an object'),
        ('{"' + "a\\n" * 200 + '": 1}', "...: must be an object"),
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
USAGES = (Usage(812, 64), Usage(812, 64, 500), Usage(250_000, 1000, 100_000), Usage(10**6, 10))
PROVIDERS = {provider.id: provider for provider in data_snapshot.get_snapshot().providers}
ELSEWHERE = {"azure": AZURE, "google": "https://generativelanguage.googleapis.com/v1beta/openai/"}
NOW = datetime.now(UTC)


def address_of(provider: Provider) -> str:
    """An address that the provider's pattern fits."""
    url = re.sub(r"\[[^]]*\][+*]", "ours", provider.api_pattern).replace("https?", "https").replace("\\.", ".")
    for _ in range(3):  # of each group the first choice
        url = re.sub(r"\((?:\?:)?([^()|]*)(?:\|[^()]*)?\)\??", r"\1", url)
    url = ELSEWHERE.get(provider.id, url)
    assert re.match(provider.api_pattern, url)
    return url


def names_of(clause: Any) -> Iterator[str]:
    """Names that fit, and some that only begin, end or look like such a one."""
    if isinstance(clause, ClauseOr | ClauseAnd):
        for one in clause.or_ if isinstance(clause, ClauseOr) else clause.and_:
            yield from names_of(one)
    else:
        (text,) = vars(clause).values()
        exact = type(clause).__name__ in ("ClauseEquals", "ClauseRegex")
        text = re.sub(r"\\d(\{\d\})?|[\\^$]", lambda found: "20261130"[: int(found[1][1]) if found[1] else 0], text)
        yield from (text,) if exact else (text, f"{text}-latest", f"our/{text}-20260229", f"our/{text}")


def calculated(url: str | None, model: str, usage: Usage, tier: str | None, when: datetime) -> PriceCalculation:
    tokens = genai_prices.Usage(
        input_tokens=usage.input, cache_read_tokens=usage.cached, output_tokens=usage.output
    )  # fmt: skip
    context = {"processing" if tier == "batch" else "service_tier": tier} if tier else {}
    return genai_prices.calc_price(
        tokens, model, provider_api_url=url, price_context=context, genai_request_timestamp=when
    )


def expected(url: str | None, model: str, usage: Usage, tier: str | None, when: datetime) -> float | None:
    """What the package says, with our rules where it says nothing."""
    try:
        found = calculated(url, model, usage, tier, when)
    except LookupError:  # what a model is called in the list need not be a name that calls have
        return None
    price = found.model_price
    if found.provider.id == "openrouter" and model.endswith(":free") and not vars(price):
        return 0.0 if tier in (None, "default", "flex", "batch") else None
    if price.input_mtok is None or price.output_mtok is None:
        return None
    if price.requests_kcount is not None or price.output_reasoning_mtok is not None:
        return None
    if tier in (None, "default") or _has_variant(found, str(tier), when):
        return float(found.total_price)
    return float(found.total_price) / 2 if tier in ("flex", "batch") else None


def _has_variant(found: PriceCalculation, tier: str, when: datetime) -> bool:
    if not any(found.model is model for model in found.provider.models):
        return False
    whens = [v.when for v in found.model.price_variants or () if not v.constraint or v.constraint.active(when)]
    return {"service_tier": tier} in whens or {"processing": tier} in whens


@cache
def found(url: str, name: str) -> tuple[price_table.Span, ...]:
    return price_table.find(url, name)


def in_the_table(url: str, name: str, when: datetime) -> Tiers:
    return price_table.tiers_at(found(url, name), f"{when:%Y-%m-%d}", f"{when:%H:%M}")


def same(price: Price | None, usage: Usage, right: float | None) -> bool:
    if price is None or right is None:
        return price is right
    return math.isclose(cost(price, usage), right, rel_tol=1e-9, abs_tol=1e-12)


def moments(model: ModelInfo) -> Iterator[datetime]:
    """Now, and just before and after each time when another price holds."""
    yield NOW
    listed = model.prices if isinstance(model.prices, list) else []
    for constraint in {str(p.constraint): p.constraint for p in [*listed, *(model.price_variants or ())]}.values():
        changes: list[datetime] = []
        if isinstance(constraint, StartDateConstraint):
            changes = [datetime.combine(constraint.start_date, time(0, tzinfo=UTC))]
        elif isinstance(constraint, TimeOfDateConstraint):
            changes = [datetime.combine(NOW.date(), clock) for clock in (constraint.start_time, constraint.end_time)]
        for change in changes:
            yield from (change, change - timedelta(seconds=1))


def test_the_table_is_what_the_package_says() -> None:
    """If it is not: make prices."""
    header, *_ = price_table.TABLE.read_text().splitlines()
    made = json.loads(header)
    assert made["made_from"] == f"genai-prices {genai_prices.__version__}"
    assert date.fromisoformat(made["made_on"])
    assert price_table.TABLE.read_text() == make_price_table.table(made["made_on"])


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_every_model_costs_what_the_package_says(provider: Provider) -> None:
    url = address_of(provider)
    for model in provider.models:
        for when in moments(model):
            tiers = in_the_table(url, model.id, when)
            for tier in TIERS if model.price_variants else (None, "batch", "priority"):
                price = tiers.get(tier or "default")
                for usage in USAGES if when is NOW else USAGES[2:]:
                    assert same(price, usage, expected(url, model.id, usage, tier, when)), (model.id, tier, usage, when)


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_every_name_means_the_model_that_it_does_to_the_package(provider: Provider) -> None:
    usage = Usage(10_000, 3000, 1000)
    urls = [address_of(provider)]
    if provider.model_match:
        urls.append(GATEWAY)
    if provider.id in (PROVIDERS["azure"].fallback_model_providers or ()):
        urls.append(AZURE)
    for model in provider.models:
        for name in names_of(model.match):
            for url in urls:
                price = in_the_table(url, name, NOW).get("default")
                known_to_it = url if url != GATEWAY else None
                assert same(price, usage, expected(known_to_it, name, usage, None, NOW)), (url, name)


@given(st.data())
@settings(deadline=None)
def test_any_usage_of_any_model(data: st.DataObject) -> None:
    provider = data.draw(st.sampled_from(list(PROVIDERS.values())))
    url, name = address_of(provider), data.draw(st.sampled_from(provider.models)).id
    tier = data.draw(st.sampled_from(TIERS))
    into = data.draw(
        st.integers(0, 3000) | st.sampled_from([200_000, 200_001, 272_000, 272_001]) | st.integers(0, 10**6)
    )
    usage = Usage(into, data.draw(st.integers(0, 10**5)), data.draw(st.integers(0, into)))
    price = in_the_table(url, name, NOW).get(tier or "default")
    assert same(price, usage, expected(url, name, usage, tier, NOW))


def test_some_of_them_have_tiers_and_some_none() -> None:
    """Else the tests above would not say much."""
    openai = PROVIDERS["openai"]
    every = [in_the_table(OPENAI, model.id, NOW) for model in openai.models]
    assert sum(len(price.input) > 1 for tiers in every for price in tiers.values()) > 20
    assert sum(len(tiers) > 3 for tiers in every) > 10
    assert every.count({}) > 10
    assert any(span.clock for span in found("https://api.deepseek.com", "deepseek-v4-pro"))


def test_a_tier_costs_what_it_does_from_its_day_on() -> None:
    days = sorted(span.day for span in found(OPENAI, MINI))
    assert days[0] == ""
    before = (datetime.fromisoformat(f"{days[1]}T12:00Z") - timedelta(1)).strftime("%Y-%m-%d")
    assert price_table.tiers_at(found(OPENAI, MINI), days[-1], "00:00").keys() == {
        "default", "flex", "batch", "priority", "fast",
    }  # fmt: skip
    assert price_table.tiers_at(found(OPENAI, MINI), before, "23:59").keys() == {"default", "flex", "batch"}


def test_who_resells_a_model_has_its_usual_price_and_no_tiers() -> None:
    assert in_the_table(OPENAI, MINI, NOW).keys() > {"default", "flex", "batch"}
    assert in_the_table(AZURE, MINI, NOW).keys() == {"default", "flex", "batch"}
    assert in_the_table(AZURE, MINI, NOW)["default"] == in_the_table(OPENAI, MINI, NOW)["default"]


def test_a_compact_date_is_a_date() -> None:
    dated = in_the_table(OPENAI, f"{MINI}-2026-03-17", NOW)
    assert dated
    assert in_the_table(OPENAI, f"{MINI}-20260317", NOW) == dated
    assert in_the_table(OPENAI, f"{MINI}-20260231", NOW) == {}


def test_names_of_the_usual_tier() -> None:
    run = Prices(OPENAI, {})
    usual = run.of(MINI, MINI, None)
    assert usual
    assert {run.of(MINI, MINI, tier) for tier in ("", "auto", "default", "standard", "on_demand")} == {usual}


def test_the_tier_that_was_requested_counts_where_the_reply_names_none() -> None:
    run = Prices(OPENAI, {}, "flex")
    assert run.of(MINI, MINI, None) == run.of(MINI, MINI, "flex") != run.of(MINI, MINI, "default")


# -- under which name -----------------------------------------------------------------------------


def test_a_gateway_has_the_price_of_what_it_serves() -> None:
    there = Prices(GATEWAY, {})
    assert there.of(MINI, MINI, None) == Prices(OPENAI, {}).of(MINI, MINI, None)


def test_a_password_in_the_url_changes_nothing() -> None:
    url = OPENAI.replace("//", "//me:secret@").replace("openai", "OpenAI")
    assert Prices(url, {}).known(MINI)
    assert not Prices(url, {}).known("claude-sonnet-4-5")  # it is known whom we ask
    assert Prices("https://[", {}).known(MINI)


def test_who_replies_under_another_name() -> None:
    dated = f"{MINI}-2026-03-17"
    run = Prices(AZURE, {})
    price = run.of(MINI, MINI, None)
    assert price
    assert run.of(dated, MINI, None) == run.of("gpt-4o", MINI, None) == price  # what was asked for is known
    assert run.of(dated, "our-deployment", None) == price  # it is not
    assert run.of("our-deployment", "our-deployment", None) is None
    assert not run.known("our-deployment")


@pytest.mark.parametrize(
    "name",
    ["sim", "", "nobody/knows-this", "gpt-99", "x" * 100_000, "\ud800", "a\0b", "voyage-3"],
    ids=["sim", "empty", "unheard of", "like another", "long", "half a character", "zero", "no output"],
)
def test_an_unknown_model_has_no_price(name: str) -> None:
    run = Prices(GATEWAY, {})
    assert run.of(name, name, None) is None
    assert run.cost(name, name, "batch", Usage(1, 1)) is None
    assert not run.known(name)


def test_own_prices_come_first() -> None:
    ours, other = flat(1, 1, 1), flat(2, 2, 2)
    run = Prices(OPENAI, {MINI: ours, "served": other})
    assert run.of(MINI, "served", None) == ours
    assert run.of("gpt-4o", "served", "flex") == other
    assert run.of("gpt-4o-mini", MINI, "priority") == ours


def test_no_price_for_what_is_billed_by_more_than_tokens() -> None:
    assert not Prices("https://api.perplexity.ai", {}).known("sonar")


def test_free_models_of_openrouter() -> None:
    snapshot = data_snapshot.get_snapshot().providers
    names = [m.id for p in snapshot if p.id == "openrouter" for m in p.models if m.id.endswith(":free")][:5]
    assert names
    run = Prices("https://openrouter.ai/api/v1", {})
    assert [run.cost(name, name, None, Usage(10, 10)) for name in names] == [0.0] * len(names)


# -- when it is read ------------------------------------------------------------------------------


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], bool]:
    """Takes the table away; what comes back says whether anybody has missed it."""
    missed: list[bool] = []

    class Missing:
        def read_bytes(self) -> bytes:
            missed.append(True)
            return (tmp_path / "none").read_bytes()

    monkeypatch.setattr(price_table, "TABLE", Missing())
    return lambda: bool(missed)


def test_what_need_not_be_looked_up_reads_nothing(looked_up: Callable[[], bool]) -> None:
    run = Prices(OPENAI, {"ours": flat(1, 1, 1)})
    assert run.known("ours")
    assert not run.known("sim")
    assert run.of("anything", "ours", None)
    assert run.of("", "sim", None) is None
    assert run.of("x" * 201, "sim", None) is None
    assert not looked_up()


def test_no_file_can_be_opened_for_a_while(looked_up: Callable[[], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    run = Prices(OPENAI, {})
    assert run.of(MINI, MINI, None) is None
    assert looked_up()
    monkeypatch.undo()
    assert run.of(MINI, MINI, None)


def test_an_endpoint_with_a_new_name_each_time() -> None:
    run = Prices(GATEWAY, {})
    for n in range(prices.MOST_NAMES):
        assert run.of(f"new-{n}", "new-0", None) is None
    assert run.of(MINI, "new-0", None) is None  # no end of names is looked up
    assert run.of("new-1", "new-0", None) is None


def alone(code: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run this in a process that knows prices and nothing else, as a tool does: its own folder first on the path."""
    begin = f"""
import sys
before = set(sys.modules)
sys.path.insert(0, {str(TOP)!r})
from llmstream.calls import prices
run = prices.Prices({OPENAI!r}, {{}})
"""
    command = [sys.executable, "-P", "-c", begin + code]
    return subprocess.run(command, capture_output=True, env=environment(), timeout=60, check=False, **more)


def test_it_costs_little_to_import_and_to_read() -> None:
    done = alone(f"print(run.known({MINI!r}), *set(sys.modules) - before)")
    known, *loaded = done.stdout.decode().split()
    assert known == "True", done.stderr
    assert "llmstream.calls.prices" in loaded
    assert not {name.partition(".")[0] for name in loaded} & {"genai_prices", "pydantic", "subprocess", "asyncio"}
