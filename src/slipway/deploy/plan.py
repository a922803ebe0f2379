"""Plans what to run an application on: the cheapest way that holds the requirement, and why not the others."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

from slipway.decide.decision import dollars
from slipway.decide.demand import NEEDED
from slipway.decide.rents import own_prices
from slipway.deploy.plan_replay import Load as ReplayLoad
from slipway.deploy.plan_replay import (
    idle_monthly,
    later_replicas,
    limits_of,
    load_of,
    replay_options,
    windows_of,
    worth_measuring,
)
from slipway.deploy.requirement import Asked, NoApplication, Surroundings, region_hourly
from slipway.domain.architecture import Architecture
from slipway.domain.deployment import Demand, MemoryBill, Plan, PlanOption
from slipway.domain.errors import InputError, NotFound, NothingMeets
from slipway.domain.hardware import Hardware
from slipway.domain.ids import new_id
from slipway.domain.release import Evidence, Release
from slipway.models.architectures import find_model
from slipway.models.calibrations import calibration_in, shipped
from slipway.models.catalog import EMBEDDED
from slipway.models.hardware import Rent, find_hardware, list_hardware
from slipway.models.memory import GIB
from slipway.models.own_prices import OwnPrices
from slipway.models.sizing import LONG_INPUT, LONG_OUTPUT, SAFE_UTILISATION, Load, list_replicas, peak_per_second
from slipway.release.evidence import latest_evidence
from slipway.release.parts import list_releases
from slipway.workspace import Workspace

THIS_MACHINE = "this machine"
RUNNERS_UP = 5
NAMED = 8
"""So many kinds of hardware without a price are named."""


def make_plan(
    workspace: Workspace, *, model: str = "", hardware: Sequence[str] = (), asked: "Asked | None" = None
) -> Plan:
    """Plans for [decide] and [deploy] and saves the plan; the same answer again returns the one that is saved.

    What is `asked` beyond [decide] goes before it: a trace then gives the traffic and its lengths.

    With a model (a catalogue name or the path of a config.json) accelerators are sized by roofline; without one the
    application runs as processes, sized by the latency that was measured on its newest release. `chosen` is None when
    nothing holds the requirement. Raises `RequirementMissing`, `RequirementContradiction`, `NotFound`.
    """
    asked = asked or Asked()
    demand = asked.demand(workspace)
    model = model or workspace.settings.deploy.model
    if model:
        shape = find_model(model, folder=workspace.folder)
        plan = _plan_for(workspace, shape, demand, hardware, asked)
    else:
        plan = plan_processes(workspace, demand)
    known = workspace.store.records.latest(Plan, workspace.application)
    if known is not None and replace(plan, id=known.id, created_at=known.created_at) == known:
        return known
    workspace.store.records.save(plan)
    return plan


def plan_without_application(
    folder: Path, model: str, *, hardware: Sequence[str] = (), asked: Asked | None = None
) -> Plan:
    """Plans for a model in a folder without slipway.toml; nothing is saved, and nothing is written.

    Raises `InputError` where the model or its traffic is lacking, `RequirementContradiction`, `NotFound`.
    """
    asked, nowhere = asked or Asked(), NoApplication(folder)
    if not model:
        raise InputError(
            f"There is nothing to plan for: '{folder.resolve()}' holds no slipway.toml. Name a model and its traffic: "
            "slipway deploy plan --model llama-3.1-8b --trace FILE. For an application: slipway init"
        )
    lacking = [f"--{name.replace('_', '-')}" for name in NEEDED if getattr(asked, name) is None]
    if asked.trace is None and lacking:
        raise InputError(f"A plan for {model} needs its traffic: give {' and '.join(lacking)}, or --trace FILE.")
    return _plan_for(nowhere, find_model(model, folder=folder), asked.demand(nowhere), hardware, asked)


def _plan_for(
    workspace: Surroundings, shape: Architecture, demand: Demand, hardware: Sequence[str], asked: Asked
) -> Plan:
    names = list(hardware) or workspace.settings.deploy.hardware
    own = {workspace.settings.decide.gpu: workspace.settings.decide.gpu_hourly}
    return plan_hosting(workspace, shape, demand, names, own_hourly=own, asked=asked)


def latest_plan(workspace: Workspace) -> Plan:
    """The newest saved plan. Raises `NotFound` before the first one."""
    found = workspace.store.records.latest(Plan, workspace.application)
    if found is None:
        raise NotFound("plan", workspace.application, next_step="Make one: slipway deploy plan")
    return found


def require_choice(plan: Plan) -> None:
    """Raises `NothingMeets`, with the nearest misses, when no option holds the requirement."""
    if plan.chosen is None:
        misses = "; ".join(f"{_describe(one)}: {one.rejected}" for one in plan.others[:3])
        raise NothingMeets(f"Nothing holds the requirement for {plan.model}. Nearest: {misses}")


def plan_hosting(
    workspace: Surroundings,
    shape: Architecture,
    demand: Demand,
    names: Sequence[str],
    *,
    own_hourly: dict[str, float | None],
    asked: Asked | None = None,
) -> Plan:
    """The plan for a model on accelerators; nothing is saved. Hardware without any price is left out, and named.

    Raises `InputError` where none has one.
    """
    asked = asked or Asked()
    load = Load.of(demand)
    replayed = load_of(demand, asked.traffic)
    calibration = calibration_in(workspace.folder)
    own = own_prices(workspace.settings.decide, folder=workspace.folder)
    region = "" if asked.own_racks else asked.region or workspace.settings.deploy.region or demand.residency
    priced: list[tuple[Hardware, Rent]] = []
    unpriced: list[str] = []
    for hardware in [find_hardware(name) for name in names] or list_hardware():
        rent = asked.rent(hardware, own_hourly.get(hardware.name), demand, own=own, region=region)
        if rent is None:
            unpriced.append(hardware.name)
        else:
            priced.append((hardware, rent))
    if not priced:
        line = f"[hardware.{unpriced[0]}] with {'purchase' if asked.own_racks else 'on_demand'}"
        raise InputError(f"No price is known for {', '.join(unpriced[:NAMED])}. Write it into prices.toml: {line}.")
    options: list[PlanOption] = []
    facts = []
    for hardware, rent in priced:
        ways = list_replicas(shape, hardware, load, calibration=calibration)
        options += [one.option(demand, hourly=rent.hourly) for one in ways]
        dated = f"{rent.source}, {rent.as_of}" if rent.as_of else rent.source
        facts.append((f"One hour of one {hardware.name}", f"${rent.hourly:.2f}", dated))
    by_rule = sorted((one for one in options if not one.rejected), key=lambda one: (one.monthly, one.first_token_ms))
    sized = replay_options(by_rule, shape, replayed, limits_of(demand), calibration)
    unplayed = by_rule[len(sized) :]
    sized = [_within_budget(one, demand) for one in sized]
    held = sorted((one for one in sized if not one.rejected), key=lambda one: (one.monthly, one.first_token_ms))
    missed = [one for one in (*options, *sized) if one.rejected]
    chosen = held[0] if held else None
    if chosen is not None:
        later = later_replicas(chosen, shape, replayed, limits_of(demand), calibration)
        if later is not None:
            chosen = replace(chosen, later_replicas=later.replicas, later_growth=later.growth)
            held[0] = chosen
    reasons = _reasons(chosen, held, missed, demand, replayed, tried=len(options))
    if chosen is not None:
        reasons += _measure_first(chosen, shape, demand)
        reasons.append(_where(chosen, own, region, own_racks=asked.own_racks))
    if unplayed:
        kinds = ", ".join(sorted({one.hardware for one in unplayed}))
        reasons.append(
            f"Not replayed: the {len(unplayed)} ways that cost most by rate / throughput, from "
            f"{dollars(unplayed[0].monthly)} a month ({kinds})."
        )
    if unpriced:
        more = f" and {len(unpriced) - NAMED} more" if len(unpriced) > NAMED else ""
        reasons.append(
            f"Left out for want of a price: {', '.join(unpriced[:NAMED])}{more}. Set [decide] gpu and gpu_hourly to "
            "plan with one."
        )
    return Plan(
        id=new_id(),
        application=workspace.application,
        model=shape.name,
        shape=shape,
        demand=demand,
        chosen=chosen,
        others=(*held[1:RUNNERS_UP], *_nearest_misses(missed)),
        reasons=tuple(reasons),
        assumptions=(*_assumptions(demand, shape, replayed), *facts),
        region=region,
        own_racks=asked.own_racks,
        replay=windows_of(chosen, shape, replayed, calibration) if chosen else (),
        created_at=workspace.now(),
    )


def plan_processes(workspace: Workspace, demand: Demand) -> Plan:
    """The plan for an engine that runs in the application's own processes, or elsewhere; nothing is saved.

    Raises `NotFound` when no release was cut or its speed was not measured.
    """
    release, speed = _measured(workspace)
    seconds = {measure.name: measure.value for measure in speed.measures}
    typical, slow = seconds["latency_p50"], seconds.get("latency_p95", seconds["latency_p50"])
    engine = release.model.engine
    remote = workspace.settings.engines.get(engine, {}).get("kind", engine) not in EMBEDDED
    peak = peak_per_second(demand)
    # A remote model keeps its own machine busy, not ours: one process waits for many answers at once.
    workers = 1 if remote else max(1, ceil(peak * typical / SAFE_UTILISATION))
    cores = os.cpu_count() or 1
    first = seconds.get("first_piece_p50", typical)
    rejected = _too_slow(demand, slow, first)
    if not rejected and workers > cores:
        rejected = f"needs {workers} processes of one core each, this machine has {cores} cores"
    carried = float("inf") if remote else workers / typical * SAFE_UTILISATION
    memory = _resident_gib()
    option = PlanOption(
        hardware=THIS_MACHINE,
        devices_per_replica=1,
        replicas=workers,
        precision="",
        memory=MemoryBill(
            weights_gib=0.0,
            kv_cache_gib=0.0,
            reserve_gib=memory * workers,
            available_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB,
        ),
        first_token_ms=1e3 * first,
        end_to_end_ms=1e3 * slow,
        token_ms=0.0,
        tokens_per_second=seconds.get("tokens_per_second", 0.0),
        requests_per_second=0.0 if remote else carried,
        utilisation=0.0 if remote else peak / demand.peak_factor * typical / workers,
        monthly=0.0,
        rejected=rejected,
        origin="measured",
    )
    where = "answers elsewhere, so one process is enough" if remote else "runs in the processes themselves"
    reasons = [
        f"Engine '{release.model.engine}' {where}; its latency was measured on {release.label} "
        f"({typical:.3g} s median, {slow:.3g} s at the 95th percentile, one request at a time).",
        f"Busiest minute: {peak:.3g} requests a second x {typical:.3g} s / {SAFE_UTILISATION:.0%} safe utilisation = "
        f"{workers} processes."
        if not remote
        else f"Busiest minute: {peak:.3g} requests a second.",
    ]
    return Plan(
        id=new_id(),
        application=workspace.application,
        model=f"{release.model.engine}/{release.model.name}",
        demand=demand,
        chosen=None if rejected else option,
        others=(option,) if rejected else (),
        reasons=tuple(reasons),
        assumptions=(
            (
                "Latency",
                f"{typical:.3g} s median",
                f"evidence {speed.id} on {release.label}, {speed.created_at.date()}",
            ),
            ("Memory of one process", f"{memory:.2f} GiB", "resident memory of this process while planning"),
            ("Safe utilisation in the busiest minute", f"{SAFE_UTILISATION:.0%}", "Azure conversation trace 2023"),
        ),
        created_at=workspace.now(),
    )


def _measured(workspace: Workspace) -> tuple[Release, Evidence]:
    """The newest release whose speed was measured, and that evidence."""
    releases = list_releases(workspace)
    for release in releases:
        speed = latest_evidence(workspace, release).get("speed")
        if speed is not None and any(measure.name == "latency_p50" for measure in speed.measures):
            return release, speed
    next_step = "Measure it: slipway evaluate run --suite speed" if releases else "Cut a release: slipway release cut"
    raise NotFound("measured speed of", workspace.application, next_step=next_step)


def _reasons(
    chosen: PlanOption | None,
    held: Sequence[PlanOption],
    missed: Sequence[PlanOption],
    demand: Demand,
    load: ReplayLoad,
    *,
    tried: int,
) -> list[str]:
    if chosen is None:
        return [f"None of {tried} ways holds the requirement."]
    found = [
        f"{_describe(chosen)} is the cheapest of {len(held)} ways that hold the requirement, of "
        f"{tried} tried: {dollars(chosen.monthly)} a month.",
        _why_so_many(chosen, demand, load),
    ]
    if chosen.later_replicas:
        found.append(_later(chosen))
    if chosen.replicas == 1:
        found.append("One replica: while it restarts, nobody is answered. Two would cost twice as much.")
    if chosen.utilisation < 0.2:
        idle = idle_monthly(chosen)
        found.append(
            f"It would be busy {chosen.utilisation:.0%} of the time; {dollars(idle)} a month pay for idle hours. "
            "Compare an API: slipway decide run."
        )
    if len(held) > 1:
        found.append(f"Next: {_describe(held[1])} at {dollars(held[1].monthly)}.")
    return found


def _why_so_many(chosen: PlanOption, demand: Demand, load: ReplayLoad) -> str:
    peak = peak_per_second(demand)
    if not chosen.replicas_by_rule:
        return (
            f"Replicas: {peak:.3g} requests a second in the busiest minute at {SAFE_UTILISATION:.0%} safe utilisation. "
            "Give a limit on latency to have traffic replayed instead."
        )
    what = "traffic in bursts" if load.invented else "the trace"
    return (
        f"Replicas: {what} at {load.traffic.per_second * load.times:.3g} requests a second was replayed; rate / "
        f"throughput would say {chosen.replicas_by_rule}. The calmest minutes need {chosen.least_replicas}."
    )


def _later(chosen: PlanOption) -> str:
    """What the plan does not cover: it holds for the traffic that was given."""
    growth = chosen.later_growth
    if chosen.later_replicas == chosen.replicas:
        return f"Later traffic: the same replicas hold {growth:.2g} times as many requests a second."
    more = chosen.monthly / chosen.replicas * chosen.later_replicas
    return (
        f"Later traffic: {growth:.2g} times as many requests a second, as may come next, need {chosen.later_replicas} "
        f"replicas ({dollars(more)} a month). Let an autoscaler go that far, or plan for more with --headroom."
    )


def _where(chosen: PlanOption, own: OwnPrices, region: str, *, own_racks: bool) -> str:
    """Where the machines stand, and whether the price is one of that place."""
    if own_racks:
        return "Place: own racks; the price is the purchase written off, energy and space."
    if not region:
        return "Place: any cloud region; prices differ between regions and sellers."
    if region_hourly(own, chosen.hardware, region) is not None:
        return f"Place: {region}, at your own price there."
    return (
        f"Place: {region}. What {chosen.hardware} costs there is not known; the price of any region is taken. Write it "
        f"into prices.toml: [hardware.{chosen.hardware}.regions]."
    )


def _measure_first(chosen: PlanOption, shape: Architecture, demand: Demand) -> list[str]:
    points = worth_measuring(chosen, shape, demand)
    if not points:
        return []
    low, high = chosen.first_token_low_ms, chosen.first_token_high_ms
    return [
        f"The first token is expected after {low:,.0f} to {high:,.0f} ms; the limit of {demand.first_token_ms:,.0f} is "
        f"inside. Measure these 4 points first, then slipway deploy calibrate: {'; '.join(points)}."
    ]


def _within_budget(option: PlanOption, demand: Demand) -> PlanOption:
    budget = demand.monthly_budget
    if option.rejected or budget is None or option.monthly <= budget:
        return option
    return replace(option, rejected=f"costs {dollars(option.monthly)} a month, the budget is {dollars(budget)}")


def _nearest_misses(missed: Sequence[PlanOption]) -> list[PlanOption]:
    """Of each kind of hardware the way that came nearest: the largest split at the fewest bits."""
    nearest = {one.hardware: one for one in missed}
    return list(nearest.values())


def _assumptions(demand: Demand, shape: Architecture, load: ReplayLoad) -> tuple[tuple[str, str, str], ...]:
    return (
        (
            "Model",
            f"{shape.parameters / 1e9:.3g}e9 parameters, {shape.active_parameters / 1e9:.3g}e9 a token",
            shape.source,
        ),
        ("Requests a day", f"{demand.requests_per_day:,.0f}, busiest minute x {demand.peak_factor:g}", "[decide]"),
        ("Tokens a request", f"{demand.input_tokens:,.0f} in, {demand.output_tokens:,.0f} out", "[decide]"),
        (
            "Longest 1 % of lengths",
            f"input x {LONG_INPUT:g}, output x {LONG_OUTPUT:g}",
            "Azure conversation trace 2023",
        ),
        (
            "Safe utilisation in the busiest minute",
            f"{SAFE_UTILISATION:.0%}",
            "Azure conversation trace 2023, replayed",
        ),
        ("Step time", "roofline, calibrated", f"published measurements, fitted {shipped().fitted}; docs/deploy.md"),
        (
            "Traffic that is replayed",
            f"{len(load.traffic):,} requests at {load.traffic.per_second:.3g} a second",
            "bursts as in the Azure conversation trace 2023" if load.invented else "the trace",
        ),
    )


def _too_slow(demand: Demand, slow_s: float, first_s: float) -> str:
    if demand.end_to_end_ms is not None and 1e3 * slow_s > demand.end_to_end_ms:
        return f"5 % of answers take longer than {1e3 * slow_s:,.0f} ms, the limit is {demand.end_to_end_ms:,.0f}"
    if demand.first_token_ms is not None and 1e3 * first_s > demand.first_token_ms:
        return f"half of the answers begin after {1e3 * first_s:,.0f} ms, the limit is {demand.first_token_ms:,.0f}"
    return ""


def _resident_gib() -> float:
    """Largest resident memory of this process so far; 0 where the system does not tell."""
    try:
        import resource
    except ModuleNotFoundError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / GIB if sys.platform == "darwin" else peak * 1024 / GIB


def _describe(option: PlanOption) -> str:
    if option.hardware == THIS_MACHINE:
        return f"{option.replicas} processes on this machine"
    way = f"{option.devices_per_replica} x {option.hardware} ({option.precision})"
    return f"{option.replicas} replicas on {way}" if option.replicas > 1 else way
