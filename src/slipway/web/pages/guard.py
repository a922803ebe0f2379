"""What is stopped, and what slips through? Rails in force, a text to try, the scoreboard on labelled texts."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from slipway.domain.errors import InputError
from slipway.domain.guardrail import Guardrails, RailSpec, TextSource, Verdict
from slipway.guard.checker import check, rail_of
from slipway.guard.parts import guardrails_from_settings
from slipway.guard.rails.base import Scene, rails
from slipway.guard.scoreboard import SOURCES, Labelled, RailScore, read_labelled, score_rails
from slipway.guard.thresholds import Threshold, choose_threshold
from slipway.web.charts import Histogram, LineChart, Mark, Point, Series
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, count, plural, seconds, share, significant
from slipway.web.page import View, Visit, ask, page
from slipway.web.pages.traces import verdict_tone
from slipway.web.table import Column, Row, Table, described, tag
from slipway.workspace import Workspace

SOURCE_WORDS = {"user": "what users write", "document": "documents", "tool": "output of tools", "answer": "answers"}
BUDGET = 0.01
MOST_EXAMPLES = 5
RAILS = (
    Column(key="rail", label="Rail", one_line=False),
    Column(key="where", label="Reads"),
    Column(key="action", label="When it fires"),
    Column(key="settings", label="Settings", mono=True, one_line=False),
)
SCORES = (
    Column(key="rail", label="Rail"),
    Column(key="source", label="Texts"),
    Column(key="caught", label="Caught", number=True),
    Column(key="missed", label="Missed", number=True),
    Column(key="raised", label="False alarms", number=True),
    Column(key="passed", label="Passed", number=True),
    Column(key="recall", label="Recall, 95 %", number=True),
    Column(key="alarms", label="False alarms, 95 %", number=True),
    Column(key="cost", label="CPU a text", number=True),
)


def show(visit: Visit) -> View:
    return View("guard.html", "Guard", _data(visit.workspace), (Crumb("Guard"),))


def try_text(visit: Visit) -> View:
    """What the rails say to one text."""
    text, source = visit.form.get("text", ""), _source(visit.said("source", "user"))
    if not text.strip():
        raise InputError("There is nothing to check. Write a text.")
    parts = guardrails_from_settings(visit.workspace.settings)
    checked = check(text, _specs(parts, source), source=source, when_undecided=parts.when_undecided)
    data = {
        **_data(visit.workspace),
        "text": text,
        "source": source,
        "checked": checked,
        "verdicts": [(verdict, verdict_tone(verdict.decision), _marked(text, verdict)) for verdict in checked.verdicts],
    }
    return View("guard.html", "Guard", data, (Crumb("Guard"),))


def score(visit: Visit) -> View:
    """The scoreboard on a file of labelled texts, and a threshold for the budget of false alarms."""
    file = visit.files.get("file")
    if file is None or not file.content:
        raise InputError("No file was chosen. Take a JSONL file with `text` and `label` (0 or 1).")
    source = _source(visit.said("source", "user"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(file.name).name
        path.write_bytes(file.content)
        rows = read_labelled(path, source=source)
    parts = guardrails_from_settings(visit.workspace.settings)
    scores = score_rails(_unique(parts), rows)
    data = {
        **_data(visit.workspace),
        "source": source,
        "rows": len(rows),
        "scores": _score_table(scores),
        "examples": [_examples(each, rows) for each in scores],
        **_threshold(visit, rows, source),
    }
    return View("guard.html", "Guard", data, (Crumb("Guard"),))


def _data(workspace: Workspace) -> dict[str, Any]:
    parts = guardrails_from_settings(workspace.settings)
    return {
        "table": _rail_table(parts),
        "when_undecided": parts.when_undecided,
        "hold_back": workspace.settings.guard.hold_back,
        "others": [
            (name, rails.help(name)) for name in rails.names() if name not in {spec.name for spec in _unique(parts)}
        ],
        "sources": [(source, SOURCE_WORDS[source]) for source in SOURCES],
        "scoring": [(spec.name, spec.name) for spec in _unique(parts)],
        "text": "",
        "source": "user",
        "checked": None,
        "verdicts": [],
        "scores": None,
        "rows": 0,
        "examples": [],
        "curve": None,
        "spread": None,
        "threshold": None,
        "no_threshold": "",
        "budget": f"{BUDGET * 100:g}",
    }


def _rail_table(parts: Guardrails) -> Table:
    placed = [("before", spec) for spec in parts.before] + [("after", spec) for spec in parts.after]
    reads = {"before": "requests", "after": "answers"}
    rows = []
    for side, spec in placed:
        settings = {
            field.name: spec.settings.get(field.name, field.default)
            for field in dataclasses.fields(rails.load(spec.name))
            if field.init
        }
        rows.append(
            Row(
                cells={
                    "rail": described(spec.name.replace("_", " "), rails.help(spec.name)),
                    "where": reads[side],
                    "action": tag(spec.action),
                    "settings": ", ".join(f"{name}={value}" for name, value in settings.items()) or UNKNOWN,
                }
            )
        )
    return Table(caption="Rails in force", columns=RAILS, rows=rows)


def _unique(parts: Guardrails) -> list[RailSpec]:
    """Each rail once, with the settings of its first place."""
    return list({spec.name: spec for spec in reversed((*parts.before, *parts.after))}.values())[::-1]


def _specs(parts: Guardrails, source: TextSource) -> tuple[RailSpec, ...]:
    return parts.after if source == "answer" else parts.before


def _source(text: str) -> TextSource:
    for source in SOURCES:
        if source == text:
            return source
    raise InputError(f"'{text}' is no source of texts. Known: {', '.join(SOURCES)}.")


def _marked(text: str, verdict: Verdict) -> list[tuple[bool, str]]:
    """The text with what the rail found marked; empty when it found no places."""
    pieces: list[tuple[bool, str]] = []
    at = 0
    for hit in sorted(verdict.hits, key=lambda hit: hit.start):
        if hit.start < at or hit.end > len(text):
            continue
        pieces += [(False, text[at : hit.start]), (True, text[hit.start : hit.end])]
        at = hit.end
    return [*pieces, (False, text[at:])] if pieces else []


def _score_table(scores: list[RailScore]) -> Table:
    return Table(
        caption="Scoreboard",
        columns=SCORES,
        rows=[
            Row(
                cells={
                    "rail": score.rail.replace("_", " "),
                    "source": SOURCE_WORDS[score.source],
                    "caught": count(score.caught),
                    "missed": count(score.missed),
                    "raised": count(score.raised),
                    "passed": count(score.passed),
                    "recall": _percent(score.recall) if score.caught + score.missed else UNKNOWN,
                    "alarms": _percent(score.false_alarms) if score.raised + score.passed else UNKNOWN,
                    "cost": seconds(score.microseconds / 1e6),
                }
            )
            for score in scores
        ],
    )


def _percent(bounds: tuple[float, float]) -> str:
    return f"{share(bounds[0])} to {share(bounds[1])}"


def _examples(score: RailScore, rows: list[Labelled]) -> dict[str, Any]:
    """Texts that a rail missed, and harmless ones that it fired on."""

    def texts(numbers: tuple[int, ...]) -> list[str]:
        return [rows[number - 1].text[:300] for number in numbers[:MOST_EXAMPLES]]

    title = f"{score.rail.replace('_', ' ')} on {SOURCE_WORDS[score.source]}"
    return {"title": title, "missed": texts(score.missed_examples), "raised": texts(score.raised_examples)}


def _threshold(visit: Visit, rows: list[Labelled], source: TextSource) -> dict[str, Any]:
    """The threshold for the stated budget, with the curve it was read from."""
    name = visit.said("rail", "prompt_attack")
    try:
        budget = float(visit.said("budget", "1")) / 100
    except ValueError:
        raise InputError(f"'{visit.said('budget')}' is no share. Write per cent, such as 1.") from None
    spec = RailSpec(name=name)
    data: dict[str, Any] = {"budget": visit.said("budget", "1"), "chosen": name}
    try:
        found = choose_threshold(spec, rows, source=source, budget=budget)
    except InputError as wrong:
        return data | {"no_threshold": str(wrong)}
    own = [(rail_of(spec).look(row.text, Scene(row.source)).score, row.label) for row in rows if row.source == source]
    harmless = [value for value, attack in own if not attack]
    attacks = [value for value, attack in own if attack]
    return data | {
        "threshold": found,
        "settings_line": _settings_line(found),
        "threshold_facts": [
            ("Threshold", significant(found.value), f"for at most {share(budget)} false alarms"),
            ("False alarms", _percent(found.false_alarms), plural(found.harmless, "harmless text")),
            ("Recall", _percent(found.recall) if found.attacks else UNKNOWN, plural(found.attacks, "attack")),
        ],
        "curve": _curve(harmless, attacks, found),
        "spread": Histogram(
            title="Scores of harmless texts", values=harmless, bins=20, x_label="score", marks=[_mark(found)], tall=150
        ),
    }


def _mark(found: Threshold) -> Mark:
    return Mark(found.value, f"threshold {significant(found.value)}")


def _curve(harmless: list[float], attacks: list[float], found: Threshold) -> LineChart:
    """Shares that fire at each threshold."""
    places = sorted({*harmless, *attacks, 0.0, 1.0})
    places = places[:: max(1, len(places) // 100)]

    def fires(values: list[float]) -> list[Point]:
        return [Point(at, sum(value >= at for value in values) / len(values) if values else None) for at in places]

    return LineChart(
        title="Share that fires by threshold",
        x_label="threshold",
        series=[
            Series(name="attacks caught", points=fires(attacks), shape="step"),
            Series(name="false alarms", points=fires(harmless), shape="step"),
        ],
        format=share,
        axis_format=share,
        top=1.0,
        marks=[_mark(found)],
        tall=220,
    )


def _settings_line(found: Threshold) -> str:
    key = f"{found.source if found.source in ('user', 'tool') else 'document'}_threshold"
    return f'{{ rail = "{found.rail}", action = "block", {key} = {found.value} }}'


ROUTES = [
    page("/guard", show),
    ask("/guard/check", try_text, needs="see_results"),
    ask("/guard/score", score, needs="run_evaluation"),
]
