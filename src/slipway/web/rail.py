"""The rail: every stage of a release as a station, from the evidence that the store holds about it."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from slipway.domain.deployment import DecisionRecord, Plan
from slipway.domain.feedback import Alert, Finding
from slipway.domain.index import Index
from slipway.domain.prompt import Prompt
from slipway.domain.release import Channel, Evidence, Gate, Release
from slipway.domain.review import SignOff
from slipway.release.evidence import latest_evidence, list_signoffs
from slipway.release.gate import gate_release
from slipway.stages import STAGES, Stage
from slipway.web.number import plural, quantity, share
from slipway.web.traffic import ONLY_USERS
from slipway.workspace import Workspace

StationState = Literal["passed", "findings", "open", "skipped", "failed"]
WORDS: dict[StationState, str] = {
    "passed": "passed with evidence",
    "findings": "passed with open findings",
    "open": "open",
    "skipped": "skipped",
    "failed": "failed",
}


class Station(NamedTuple):
    """A stage of one release: how it stands, and one line of evidence that leads to more."""

    stage: Stage
    state: StationState
    line: str
    href: str

    @property
    def name(self) -> str:
        return self.stage.capitalize()

    @property
    def word(self) -> str:
        return WORDS[self.state]


class _Facts(NamedTuple):
    workspace: Workspace
    release: Release
    evidence: dict[str, Evidence]
    signoffs: list[SignOff]
    gate: Gate


def read_rail(workspace: Workspace, release: Release) -> list[Station]:
    """The stations of a release, in the order of the stages."""
    facts = _Facts(
        workspace,
        release,
        latest_evidence(workspace, release),
        list_signoffs(workspace, release),
        gate_release(workspace, release),
    )
    stations = []
    for stage in STAGES:
        state, line = READERS[stage](facts)
        href = f"/release/{release.number}" if stage == "release" else f"/{stage}"
        stations.append(Station(stage, state, line, href))
    return stations


def _decide(facts: _Facts) -> tuple[StationState, str]:
    record = facts.workspace.store.records.latest(DecisionRecord, facts.release.application)
    return ("passed", record.recommended) if record else ("open", "not decided yet")


def _prompt(facts: _Facts) -> tuple[StationState, str]:
    from slipway.prompt.linter import lint

    part = facts.release.prompt
    if part is None:
        return "skipped", "requests go to the model as they come"
    prompt = facts.workspace.store.records.find(Prompt, str(part))
    findings = [finding for finding in lint(prompt) if finding.severity != "hint"] if prompt else []
    return ("findings", f"{part}, {plural(len(findings), 'finding')}") if findings else ("passed", str(part))


def _train(facts: _Facts) -> tuple[StationState, str]:
    found = facts.evidence.get("train")
    if found is not None:
        return ("passed" if found.passed is not False else "findings"), found.summary
    return "skipped", "the model is used as it is"


def _retrieve(facts: _Facts) -> tuple[StationState, str]:
    part = facts.release.index
    if part is None:
        return "skipped", "no documents"
    index = facts.workspace.store.records.find(Index, str(part))
    documents = f", {plural(len(index.documents), 'document')}" if index else ""
    return "passed", f"{part}{documents}"


def _guard(facts: _Facts) -> tuple[StationState, str]:
    rails = len(facts.release.guardrails.before) + len(facts.release.guardrails.after)
    return ("passed", plural(rails, "rail")) if rails else ("open", "no rails")


def _release(facts: _Facts) -> tuple[StationState, str]:
    closed = [check for check in facts.gate.checks if check.state != "passed"]
    if not closed:
        return "passed", "the gate is open"
    state: StationState = "failed" if any(check.state in ("failed", "below") for check in closed) else "open"
    return state, f"{len(closed)} of {plural(len(facts.gate.checks), 'check')} closed"


def _evaluate(facts: _Facts) -> tuple[StationState, str]:
    suites = [item for item in facts.evidence.values() if item.kind == "evaluation"]
    if not suites:
        return "open", "not evaluated yet"
    failed = [item.suite for item in suites if item.passed is False]
    if failed:
        return "findings", f"{', '.join(failed)} below its bound"
    first = next((item for item in suites if item.suite == "quality"), suites[0])
    measure = first.measures[0] if first.measures else None
    return "passed", f"{measure.name} {quantity(measure.value, measure.unit)}" if measure else first.summary


def _review(facts: _Facts) -> tuple[StationState, str]:
    latest = {signoff.role: signoff for signoff in sorted(facts.signoffs, key=lambda item: item.created_at)}
    rejected = [role for role, signoff in latest.items() if signoff.decision == "reject"]
    if rejected:
        return "failed", f"{', '.join(rejected)} rejected"
    roles = facts.workspace.settings.review.roles
    signed = [role for role in roles if role in latest]
    if not roles:
        return ("passed", plural(len(latest), "sign-off")) if latest else ("skipped", "no role has to sign")
    return ("passed" if len(signed) == len(roles) else "open"), f"{len(signed)} of {plural(len(roles), 'role')} signed"


def _deploy(facts: _Facts) -> tuple[StationState, str]:
    records = facts.workspace.store.records
    for channel in records.list(Channel):
        total = sum(part.weight for part in channel.shares)
        for part in channel.shares:
            if part.release == facts.release.id:
                return "passed", f"{channel.name} {share(part.weight / total)}"
    plan = records.latest(Plan, facts.release.application)
    return "open", f"planned: {plan.chosen.hardware}" if plan and plan.chosen else "on no channel"


def _watch(facts: _Facts) -> tuple[StationState, str]:
    active = [alert for alert in facts.workspace.store.records.list(Alert, limit=50) if alert.resolved_at is None]
    if active:
        return "findings", plural(len(active), "alert")
    traces = facts.workspace.store.traces.count(release=facts.release.id, query=ONLY_USERS)
    return ("passed", plural(traces, "trace")) if traces else ("open", "no traces yet")


def _learn(facts: _Facts) -> tuple[StationState, str]:
    own = [item for item in facts.workspace.store.records.list(Finding) if item.release == facts.release.id]
    waiting = [item for item in own if item.state in ("open", "drafted")]
    if waiting:
        return "findings", plural(len(waiting), "open finding")
    return ("passed", f"{plural(len(own), 'finding')} closed") if own else ("open", "nothing found yet")


READERS: dict[Stage, Callable[[_Facts], tuple[StationState, str]]] = {
    "decide": _decide,
    "prompt": _prompt,
    "train": _train,
    "retrieve": _retrieve,
    "guard": _guard,
    "release": _release,
    "evaluate": _evaluate,
    "review": _review,
    "deploy": _deploy,
    "watch": _watch,
    "learn": _learn,
}
