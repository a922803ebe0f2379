"""Plans: the cheapest way that holds, why not the others, and exit code 3 when nothing does."""

from dataclasses import replace

import msgspec
import pytest

from slipway.config.settings import Settings
from slipway.deploy.plan import THIS_MACHINE, latest_plan, make_plan, require_choice
from slipway.deploy.requirement import Asked
from slipway.deploy.traffic import invented
from slipway.domain.decoding import Decoding
from slipway.domain.deployment import Plan
from slipway.domain.errors import InputError, NotFound, NothingMeets
from slipway.domain.guardrail import Guardrails
from slipway.domain.ids import ReleaseId
from slipway.domain.model import Model
from slipway.domain.release import Evidence, Measure, Release
from slipway.release.evidence import attach, latest_evidence
from slipway.workspace import Workspace


def asking(workspace: Workspace, **decide: object) -> Workspace:
    settings: Settings = msgspec.structs.replace(
        workspace.settings, decide=msgspec.structs.replace(workspace.settings.decide, **decide)
    )
    return replace(workspace, settings=settings)


def with_speed(workspace: Workspace, *, median_s: float = 0.1) -> Release:
    """A release of the embedded engine whose speed was measured."""
    release = Release(
        id=ReleaseId("r" * 64),
        application=workspace.application,
        number=1,
        model=Model(engine="extractive", name="extractive"),
        decoding=Decoding(),
        prompt=None,
        index=None,
        guardrails=Guardrails(),
        created_at=workspace.now(),
    )
    workspace.store.records.save(release)
    measures = tuple(
        Measure(name=name, value=value, n=20, unit="s", better="lower")
        for name, value in (("latency_p50", median_s), ("latency_p95", 2 * median_s), ("first_piece_p50", median_s))
    )
    attach(
        workspace,
        Evidence(
            id="speed-1", release=release.id, kind="latency", suite="speed", measures=measures, passed=None, summary="",
            created_at=workspace.now(),
        ),
    )  # fmt: skip
    return release


def test_the_cheapest_way_that_holds_is_chosen(workspace: Workspace) -> None:
    plan = make_plan(asking(workspace, first_token_ms=500.0), model="llama-3.1-8b")
    assert plan.chosen is not None
    assert plan.chosen.first_token_ms <= 500
    held = [option for option in plan.others if not option.rejected]
    assert held
    assert all(plan.chosen.monthly <= option.monthly for option in held)
    assert any("cheapest" in reason for reason in plan.reasons)
    assert plan.chosen.memory.total_gib <= plan.chosen.memory.available_gib
    assert plan.chosen.origin == "estimated"


def test_what_was_excluded_says_why(workspace: Workspace) -> None:
    plan = make_plan(asking(workspace), model="llama-3.1-70b", hardware=["rtx-4090", "h100-sxm"])
    reasons = {option.hardware: option.rejected for option in plan.others if option.rejected}
    assert "GiB" in reasons["rtx-4090"]


def test_more_traffic_needs_more_replicas(workspace: Workspace) -> None:
    counts = []
    for day in (1e5, 3e6, 3e7):
        chosen = make_plan(asking(workspace, requests_per_day=day), model="llama-3.1-8b", hardware=["h100-sxm"]).chosen
        assert chosen is not None
        assert chosen.requests_per_second >= day / 86_400 * 3
        counts.append(chosen.replicas * chosen.devices_per_replica)
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_hardware_without_a_price_is_left_out_and_named(workspace: Workspace) -> None:
    plan = make_plan(workspace, model="llama-3.1-8b")
    assert any("b200-sxm" in reason for reason in plan.reasons)
    own = make_plan(asking(workspace, gpu="b200-sxm", gpu_hourly=4.0), model="llama-3.1-8b", hardware=["b200-sxm"])
    assert own.chosen is not None
    assert own.chosen.hardware == "b200-sxm"


def test_nothing_holds_names_the_nearest_misses(workspace: Workspace) -> None:
    plan = make_plan(asking(workspace, first_token_ms=1.0), model="llama-3.1-70b", hardware=["h100-sxm"])
    assert plan.chosen is None
    with pytest.raises(NothingMeets, match=r"8 x h100-sxm \(fp8\): first token after") as nothing:
        require_choice(plan)
    assert nothing.value.exit_code == 3


def test_unknown_names_are_named(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="Did you mean 'h100-sxm'"):
        make_plan(workspace, model="llama-3.1-8b", hardware=["h100-smx"])
    with pytest.raises(NotFound, match="no-such"):
        make_plan(workspace, model="no-such")


def test_a_plan_is_kept_once(workspace: Workspace) -> None:
    first = make_plan(workspace, model="llama-3.1-8b")
    assert make_plan(workspace, model="llama-3.1-8b") == first
    assert latest_plan(workspace) == first
    assert len(workspace.store.records.list(Plan)) == 1


def test_the_embedded_engine_is_sized_by_its_measured_latency(workspace: Workspace) -> None:
    with_speed(workspace, median_s=0.1)
    plan = make_plan(asking(workspace, requests_per_day=8_640_000.0, peak_factor=1.0))
    option = plan.chosen or plan.others[0]
    assert option.hardware == THIS_MACHINE
    assert option.replicas == 16, "100 requests a second x 0.1 s / 65 % safe utilisation"
    assert option.origin == "measured"


def test_an_embedded_engine_that_is_too_slow_is_refused(workspace: Workspace) -> None:
    with_speed(workspace, median_s=2.0)
    plan = make_plan(asking(workspace, end_to_end_ms=1000.0))
    assert plan.chosen is None
    with pytest.raises(NothingMeets, match="4,000 ms"):
        require_choice(plan)


def test_without_a_measurement_the_next_step_is_named(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="slipway release cut"):
        make_plan(workspace)


def test_an_engine_that_answers_elsewhere_needs_one_process(workspace: Workspace) -> None:
    release = with_speed(workspace, median_s=0.5)
    remote = replace(release, id=ReleaseId("s" * 64), number=2, model=Model(engine="openai", name="gpt-5-mini"))
    workspace.store.records.save(remote)
    measured = latest_evidence(workspace, release)["speed"]
    attach(workspace, replace(measured, id="speed-2", release=remote.id))
    chosen = make_plan(asking(workspace, requests_per_day=8_640_000.0)).chosen
    assert chosen is not None
    assert (chosen.hardware, chosen.replicas) == (THIS_MACHINE, 1)


def test_a_limit_on_latency_has_traffic_replayed(workspace: Workspace) -> None:
    asked = Asked(requests_per_day=2e6, input_tokens=1000, output_tokens=200, first_token_ms=800, token_ms=60)
    plan = make_plan(workspace, model="llama-3.1-70b", hardware=["h100-sxm"], asked=asked)
    chosen = plan.chosen
    assert chosen is not None
    assert chosen.origin == "calibrated", "this model was measured on this hardware"
    assert chosen.first_token_ms <= 800
    assert chosen.token_ms <= 60
    assert chosen.first_token_low_ms < chosen.first_token_ms < chosen.first_token_high_ms
    assert 1 <= chosen.least_replicas <= chosen.replicas
    assert chosen.replicas_by_rule < chosen.replicas
    assert 0 < chosen.utilisation < 1
    assert chosen.memory.total_gib <= chosen.memory.available_gib
    assert any("was replayed; rate / throughput would say" in reason for reason in plan.reasons)


def test_a_trace_is_the_requirement(workspace: Workspace) -> None:
    slow = invented(per_second=20.0, input_tokens=800, output_tokens=150, requests=900)
    counts = []
    for trace in (slow, slow.at_rate(100.0)):
        asked = Asked(trace=trace, first_token_ms=2000, token_ms=100)
        plan = make_plan(workspace, model="llama-3.1-8b", hardware=["h100-sxm"], asked=asked)
        assert plan.chosen is not None
        assert plan.demand.requests_per_day == pytest.approx(trace.per_second * 86_400)
        counts.append(plan.chosen.replicas * plan.chosen.devices_per_replica)
    assert counts[0] < counts[1]


def test_a_plan_of_a_trace_says_what_later_traffic_needs_and_a_headroom_plans_for_it(workspace: Workspace) -> None:
    trace = invented(per_second=60.0, input_tokens=800, output_tokens=150, requests=900)
    limits = {"first_token_ms": 800.0, "token_ms": 60.0}

    def planned(**more: float) -> Plan:
        asked = Asked(trace=trace, **limits, **more)  # type: ignore[arg-type]
        return make_plan(workspace, model="llama-3.1-70b", hardware=["h100-sxm"], asked=asked)

    plan = planned()
    assert plan.chosen is not None
    assert plan.chosen.later_replicas > plan.chosen.replicas
    assert any(
        f"{plan.chosen.later_growth:.2g} times as many requests a second, as may come next, need "
        f"{plan.chosen.later_replicas} replicas" in reason
        for reason in plan.reasons
    )
    roomy = planned(headroom=0.4)
    assert roomy.chosen is not None
    assert roomy.demand.requests_per_day == pytest.approx(1.4 * plan.demand.requests_per_day)
    if roomy.chosen.devices_per_replica == plan.chosen.devices_per_replica:
        assert plan.chosen.replicas < roomy.chosen.replicas <= plan.chosen.later_replicas, "or with another step size"
    stated = Asked(requests_per_day=2e6, input_tokens=800, output_tokens=150, headroom=0.5)
    assert stated.demand(workspace).requests_per_day == pytest.approx(3e6)
    with pytest.raises(InputError, match="A headroom of -1 makes no sense"):
        planned(headroom=-1.0)


def test_hardware_that_nobody_sells_here_is_named_with_where_to_write_its_price(workspace: Workspace) -> None:
    for own, price in ((False, "on_demand"), (True, "purchase")):
        with pytest.raises(InputError, match=rf"No price is known for gaudi3\..*\[hardware.gaudi3\] with {price}"):
            make_plan(workspace, model="llama-3.1-8b", hardware=["gaudi3"], asked=Asked(own_racks=own))


def test_a_limit_on_half_of_the_requests_is_planned_for(workspace: Workspace) -> None:
    load = {"requests_per_day": 2e6, "input_tokens": 1000.0, "output_tokens": 200.0, "first_token_ms": 800.0}

    def planned(**more: float) -> Plan:
        return make_plan(workspace, model="llama-3.1-70b", hardware=["h100-sxm"], asked=Asked(**load, **more))  # type: ignore[arg-type]

    loose, tight = planned(), planned(token_p50_ms=15.0)
    assert loose.chosen is not None
    assert tight.chosen is not None
    assert tight.chosen.monthly > loose.chosen.monthly
    with pytest.raises(InputError, match="half of the requests take no longer than the slowest"):
        planned(first_token_p50_ms=900.0)


def test_a_trace_of_one_request_is_no_requirement(workspace: Workspace) -> None:
    one = invented(per_second=1.0, input_tokens=100, output_tokens=20, requests=1)
    with pytest.raises(InputError, match="one request shows no rate"):
        make_plan(workspace, model="llama-3.1-8b", hardware=["l40s"], asked=Asked(trace=one))


def test_more_than_the_budget_is_ruled_out(workspace: Workspace) -> None:
    asked = Asked(monthly_budget=100.0, first_token_ms=2000.0)
    plan = make_plan(workspace, model="llama-3.1-8b", hardware=["h100-sxm"], asked=asked)
    assert plan.chosen is None
    with pytest.raises(NothingMeets, match=r"the budget is \$100"):
        require_choice(plan)


def test_own_racks_cost_what_they_are_bought_for(workspace: Workspace) -> None:
    rented, owned = (
        make_plan(workspace, model="llama-3.1-8b", hardware=["h100-sxm"], asked=Asked(own_racks=own)).chosen
        for own in (False, True)
    )
    assert rented is not None
    assert owned is not None
    assert 0.2 < owned.monthly / owned.replicas / (rented.monthly / rented.replicas) < 1


def test_a_limit_inside_the_interval_asks_for_four_measurements(workspace: Workspace) -> None:
    asked = Asked(requests_per_day=5e4, input_tokens=1000, output_tokens=200, first_token_ms=600, token_ms=100)
    plan = make_plan(workspace, model="llama-3.1-8b", hardware=["l40s"], asked=asked)
    assert plan.chosen is not None
    reason = next(reason for reason in plan.reasons if "Measure these 4 points first" in reason)
    assert reason.count("llama-3.1-8b on") == 4


@pytest.mark.parametrize("name", ["requests_per_day", "first_token_ms", "monthly_budget"])
def test_a_negative_number_makes_no_sense(workspace: Workspace, name: str) -> None:
    with pytest.raises(InputError, match=f"{name} = -1 makes no sense"):
        make_plan(workspace, model="llama-3.1-8b", asked=Asked(**{name: -1.0}))


def test_a_region_has_its_own_price_or_the_plan_says_that_it_is_not_known(workspace: Workspace) -> None:
    asking_limit = asking(workspace, first_token_ms=800.0)
    unknown = make_plan(asking_limit, model="llama-3.1-8b", hardware=["l4"], asked=Asked(region="eu-west-1"))
    assert unknown.region == "eu-west-1"
    assert any("What l4 costs there is not known" in reason for reason in unknown.reasons)
    (workspace.folder / "prices.toml").write_text(
        '[hardware.l4]\non_demand = 0.5\nas_of = 2026-11-01\nregions = { "EU-West-1" = 2.0, us = 0.4 }\n'
    )
    known = make_plan(asking_limit, model="llama-3.1-8b", hardware=["l4"], asked=Asked(region="eu-west-1"))
    elsewhere = make_plan(asking_limit, model="llama-3.1-8b", hardware=["l4"])
    assert known.chosen is not None
    assert elsewhere.chosen is not None
    assert known.chosen.monthly == pytest.approx(4 * elsewhere.chosen.monthly)
    assert any("Place: eu-west-1, at your own price there." in reason for reason in known.reasons)
    home = make_plan(asking(workspace, first_token_ms=800.0, residency="us"), model="llama-3.1-8b", hardware=["l4"])
    assert home.region == "us", "where the data has to stay"
    with pytest.raises(InputError, match="Own racks stand in no cloud region"):
        make_plan(asking_limit, model="llama-3.1-8b", asked=Asked(own_racks=True, region="us"))
    with pytest.raises(InputError, match=r"No price is known for l4\."):
        make_plan(asking_limit, model="llama-3.1-8b", hardware=["l4"], asked=Asked(own_racks=True))
    racks = make_plan(asking_limit, model="llama-3.1-8b", hardware=["h100-sxm"], asked=Asked(own_racks=True))
    assert any("own racks" in reason for reason in racks.reasons)


def test_a_plan_names_the_ways_that_were_not_replayed(workspace: Workspace) -> None:
    plan = make_plan(asking(workspace, first_token_ms=500.0), model="llama-3.1-8b")
    assert plan.chosen is not None
    left = [reason for reason in plan.reasons if reason.startswith("Not replayed")]
    assert left, "many kinds of hardware hold an 8B model; those that cost several times as much are not replayed"
