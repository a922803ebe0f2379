"""What runs where, how big, how dear? The requirement, the plan with its reasons, the files to copy."""

from typing import Any

from slipway.deploy.emission import emit
from slipway.deploy.plan import THIS_MACHINE, make_plan
from slipway.deploy.plan_replay import idle_monthly
from slipway.deploy.requirement import Asked
from slipway.deploy.targets.base import targets
from slipway.domain.deployment import Plan, PlanOption
from slipway.domain.errors import InputError, SlipwayError
from slipway.models.architectures import list_models
from slipway.models.hardware import list_hardware, rent_of
from slipway.release.evidence import latest_evidence
from slipway.release.parts import list_releases
from slipway.web.drawings import replay_chart, wait_chart
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, count, money, seconds, share, significant
from slipway.web.page import Done, View, Visit, act, page
from slipway.web.table import Column, Row, Table, tag

PLANS = (
    Column(key="way", label="Way"),
    Column(key="verdict", label="Verdict", one_line=False),
    Column(key="replicas", label="Replicas", number=True),
    Column(key="monthly", label="A month", number=True),
    Column(key="first", label="First token", number=True),
    Column(key="token", label="A token", number=True),
    Column(key="answer", label="Answer", number=True),
    Column(key="rate", label="Requests / s", number=True),
    Column(key="busy", label="Busy", number=True),
)
HARDWARE = (
    Column(key="name", label="Hardware"),
    Column(key="memory", label="Memory GiB", number=True),
    Column(key="bandwidth", label="GB/s", number=True),
    Column(key="tflops", label="bf16 TFLOP/s", number=True),
    Column(key="hourly", label="An hour", number=True),
    Column(key="as_of", label="Price of"),
)


def show(visit: Visit) -> View:
    workspace = visit.workspace
    plan = workspace.store.records.latest(Plan, workspace.application)
    releases = list_releases(workspace)
    data: dict[str, Any] = {
        "plan": plan,
        "model": workspace.settings.deploy.model,
        "models": [("", "the application's own processes"), *((each.name, each.name) for each in list_models())],
        "hardware": _hardware(),
        "targets": [(name, targets.help(name)) for name in targets.names()],
        "target": visit.ask("target"),
        "files": {},
        "emit_problem": "",
    }
    if plan is not None:
        data |= {
            "options": _options(plan),
            "memory": _memory(plan.chosen) if plan.chosen and plan.model and plan.shape else [],
            "replay": [replay_chart(plan), wait_chart(plan)] if plan.replay else [],
            "idle": money(idle_monthly(plan.chosen)) if plan.chosen and plan.chosen.monthly else "",
            "measured": _measured(visit),
            "demand": [
                ("Requests a day", count(plan.demand.requests_per_day)),
                ("Busiest minute", f"{significant(plan.demand.peak_factor)} times the mean"),
                ("Tokens", f"{count(plan.demand.input_tokens)} in, {count(plan.demand.output_tokens)} out"),
                ("First token", _limit(plan.demand.first_token_ms)),
                ("A token", _limit(plan.demand.token_ms)),
                ("Whole answer", _limit(plan.demand.end_to_end_ms)),
                ("Context", f"{count(plan.demand.context_tokens)} tokens"),
                ("Place", "own racks" if plan.own_racks else plan.region or "any cloud region"),
            ],
        }
        if visit.ask("target") in targets.names():
            try:
                release = releases[0] if releases else None
                data["files"] = emit(workspace, visit.ask("target"), plan=plan, release=release, settings={})
            except SlipwayError as wrong:
                data["emit_problem"] = str(wrong)
    return View("deploy.html", "Deploy", data, (Crumb("Deploy"),))


def make(visit: Visit) -> Done:
    """Plans for [decide] and [deploy]; a model or hardware given here is taken instead."""
    hardware = [name for name in visit.lists.get("hardware", []) if name]
    asked = Asked(
        first_token_ms=_number(visit, "first_token_ms"),
        token_ms=_number(visit, "token_ms"),
        monthly_budget=_number(visit, "monthly_budget"),
        own_racks=bool(visit.said("own_racks")),
        region=visit.said("region"),
    )
    plan = make_plan(visit.workspace, model=visit.said("model"), hardware=hardware, asked=asked)
    if plan.chosen is None:
        return Done("/deploy", "Nothing holds the requirement; the nearest misses are listed.")
    return Done("/deploy", f"Planned: {_way(plan.chosen)}.")


def _options(plan: Plan) -> Table:
    options = [*([plan.chosen] if plan.chosen else []), *plan.others]
    return Table(caption="Ways to run it", columns=PLANS, rows=[_row(option, plan) for option in options])


def _row(option: PlanOption, plan: Plan) -> Row:
    if option.rejected:
        return Row(cells={"way": _way(option), "verdict": f"ruled out: {option.rejected}"})
    return Row(
        cells={
            "way": _way(option),
            "replicas": count(option.replicas),
            "first": _first(option),
            "token": _ms(option.token_ms),
            "answer": _ms(option.end_to_end_ms),
            "rate": significant(option.requests_per_second) if option.requests_per_second else UNKNOWN,
            "busy": share(option.utilisation),
            "monthly": money(option.monthly),
            "verdict": tag("chosen", "pass") if option is plan.chosen else option.origin,
        }
    )


def _way(option: PlanOption) -> str:
    precision = f" ({option.precision})" if option.precision else ""
    if option.hardware == THIS_MACHINE:
        return f"{THIS_MACHINE}{precision}"
    return f"{option.devices_per_replica} × {option.hardware}{precision}"


def _memory(option: PlanOption) -> list[tuple[str, str, str, int]]:
    """(what, its share of the available memory in per cent, GiB, series) of one replica."""
    bill = option.memory
    whole = max(bill.available_gib, bill.total_gib) or 1.0
    parts = (("weights", bill.weights_gib), ("cache", bill.kv_cache_gib), ("reserve", bill.reserve_gib))
    rows = [
        (name, f"{100 * gib / whole:.2f}", f"{significant(gib)} GiB", place)
        for place, (name, gib) in enumerate(parts, 1)
    ]
    free = max(0.0, bill.available_gib - bill.total_gib)
    return [*rows, ("free", f"{100 * free / whole:.2f}", f"{significant(free)} GiB", 0)]


def _measured(visit: Visit) -> list[tuple[str, str]]:
    """What the speed suite measured on the newest release, to hold against the estimate."""
    releases = list_releases(visit.workspace)
    speed = latest_evidence(visit.workspace, releases[0]).get("speed") if releases else None
    if speed is None:
        return []
    return [(item.name.replace("_", " "), seconds(item.value)) for item in speed.measures if item.unit == "s"]


def _hardware() -> Table:
    rows = []
    for hardware in list_hardware():
        rent = rent_of(hardware.name)
        rows.append(
            Row(
                cells={
                    "name": hardware.name,
                    "memory": significant(hardware.memory_gib),
                    "bandwidth": count(hardware.bandwidth_gb_s),
                    "tflops": count(hardware.tflops.get("bf16")),
                    "hourly": money(rent.hourly) if rent else UNKNOWN,
                    "as_of": str(rent.as_of or UNKNOWN) if rent else UNKNOWN,
                }
            )
        )
    return Table(caption="Hardware", columns=HARDWARE, rows=rows, compact=True)


def _ms(value: float) -> str:
    return seconds(value / 1000) if value else UNKNOWN


def _first(option: PlanOption) -> str:
    """The wait for the first token with the interval that holds 80 % of what is measured."""
    if not option.first_token_high_ms:
        return _ms(option.first_token_ms)
    low, high = _ms(option.first_token_low_ms), _ms(option.first_token_high_ms)
    return f"{_ms(option.first_token_ms)} ({low} to {high})"


def _number(visit: Visit, name: str) -> float | None:
    """What a field holds; empty is None. Raises `InputError`."""
    written = visit.said(name).strip()
    if not written:
        return None
    try:
        return float(written)
    except ValueError:
        raise InputError(f"'{written}' is not a number. Give one, or leave the field empty.") from None


def _limit(value: float | None) -> str:
    return "no limit" if value is None else f"at most {seconds(value / 1000)}"


ROUTES = [page("/deploy", show), act("/deploy", make, back=show, needs="change_settings")]
