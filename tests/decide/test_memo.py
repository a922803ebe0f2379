"""The report: every figure finds its formula and its source, and the pages hold when nothing is left to recommend."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from slipway.config.settings import DecideSettings
from slipway.decide.arrivals import Arrival
from slipway.decide.decision import compare_roads
from slipway.decide.demand import read_demand
from slipway.decide.memo import memo, row_words, weakest
from slipway.decide.options import list_candidates
from slipway.decide.traffic import measure_traffic
from slipway.domain.decision import Traffic
from slipway.domain.deployment import DecisionRecord
from slipway.web.report import render_report

NOW = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = [
    Arrival(day * 86_400 + hour * 3600 + second, 1200, 150)
    for day in range(3)
    for hour in range(24)
    for second in range(0, 3600, 60 if hour < 12 else 12)
]


def decided(traffic: Traffic | None = None, **changed: object) -> DecisionRecord:
    given = {"requests_per_day": 5e6, "input_tokens": 1200.0, "output_tokens": 150.0, "gpu_hourly": 2.5, **changed}
    settings = DecideSettings(**given)
    demand = read_demand(settings, traffic=traffic)
    return compare_roads("lamps", demand, settings, list_candidates(demand, settings, folder=Path()), now=NOW)


def test_every_figure_finds_its_source_and_every_road_its_bill() -> None:
    pages = memo(decided())
    sources = pages.engineer.sources
    for detail in pages.engineer.details:
        for each in detail.bill:
            assert sources[each.number - 1] == each.line.source
    for one in pages.engineer.assumptions:
        assert sources[one.number - 1] == one.source
    html = render_report("reports/decision.html", memo=pages, record=decided())
    for place in range(1, len(sources) + 1):
        assert f'id="source-{place}"' in html
    for road in pages.executive.roads:
        assert f'href="#road-{road.place}"' in html
        assert f'id="road-{road.place}"' in html


def test_machines_carry_their_memory_and_their_latency_beside_the_limit() -> None:
    pages = memo(decided(first_token_ms=900.0))
    assert pages.engineer.machines
    for machine in pages.engineer.machines:
        assert machine.memory.total_gib <= machine.memory.available_gib
        assert machine.latency[0][2] == "900 ms"
        assert float(machine.latency[0][1].removesuffix(" ms").replace(",", "")) <= 900
    assert "times the predicted one in four of five cases" in pages.engineer.prediction


def test_with_a_trace_replicas_are_drawn_over_the_day_and_tokens_count_as_measured() -> None:
    record = decided(measure_traffic(DAYS, source="three days"))
    api = next(option for option in record.options if option.road == "api")
    assert {line.origin for line in api.lines if line.name.endswith("tokens")} == {"measured"}
    assert weakest(api) == "measured"
    curve = memo(record).engineer.replicas
    assert curve is not None
    assert curve.over == "hour"
    assert len(curve.needed) == 25
    assert max(needed for _, needed in curve.needed) <= curve.paid


def test_without_a_trace_there_is_no_curve_and_nothing_is_called_measured() -> None:
    record = decided()
    assert memo(record).engineer.replicas is None
    kinds = {option.name: weakest(option) for option in record.options}
    assert "measured" not in kinds.values()
    assert kinds["llama-3.1-8b on rented h100-sxm"] == "calibrated", "H100 under vLLM was measured"
    assert kinds["own llama-3.1-8b-sized model"] == "estimated", "the hours of training were not"


def test_a_report_on_nothing_left_names_the_reasons() -> None:
    record = decided(monthly_budget=1.0, open_models=["llama-3.1-8b", "deepseek-r1"])
    assert record.recommended == ""
    html = render_report("reports/decision.html", memo=memo(record), record=record)
    assert "Nothing meets the requirement" in html
    assert "over the budget" in html
    impossible = next(option for option in record.options if not option.lines)
    assert row_words(impossible, 0.0) == ("–", "–", "–")
    assert "GiB" in impossible.rejected


@pytest.mark.parametrize(
    ("chance", "words"), [(0.0, "0 %"), (0.004, "under 1 %"), (0.997, "over 99 %"), (0.52, "52 %")]
)
def test_a_chance_is_never_rounded_to_certainty(chance: float, words: str) -> None:
    option = next(one for one in decided().options if one.lines and not one.rejected)
    assert row_words(option, chance)[2] == words
