"""Is the right passage found, and what is missing? Search with its scores, settings compared, gaps by topic."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from slipway.config.editing import write_value
from slipway.domain.dataset import Case, Dataset
from slipway.domain.document import Passage
from slipway.domain.errors import InputError, NoClearDifference
from slipway.domain.ids import hash_text
from slipway.domain.index import Index
from slipway.domain.release import Measure
from slipway.domain.settings_comparison import SettingsComparison
from slipway.evaluate.cases import parse_cases
from slipway.evaluate.dataset import QUESTIONS, default_dataset, load_dataset, save_cases
from slipway.intervals import wilson
from slipway.retrieve.applying import best_values
from slipway.retrieve.calibration import (
    check_cases,
    describe_calibration,
    found_rows,
    most_unseen,
    undo_calibration,
)
from slipway.retrieve.gaps import find_gaps
from slipway.retrieve.index import load_index, load_sources, outdated
from slipway.retrieve.query import read_document, search_index
from slipway.retrieve.ranking import DEPTH
from slipway.retrieve.where import known_where
from slipway.text.overlap import UNSPACED, asked_stems, content_words
from slipway.web import work
from slipway.web.charts import HeatMap
from slipway.web.frame import Crumb
from slipway.web.number import count, interval, moment, plural, share, significant
from slipway.web.page import Done, View, Visit, act, page
from slipway.web.table import Column, Row, Table, sort_rows
from slipway.workspace import Workspace

WORD = re.compile(rf"([{UNSPACED}]|[^\W{UNSPACED}]+)")
JOBS = ("build_index", "compare_settings", "apply_settings", "calibrate_index")
PASTED = "calibration"
"""Dataset that holds the questions which were pasted or chosen as a file to calibrate on."""
RATE = "5"
"""Per cent of false alarms that the form offers."""
MOST_DOCUMENTS = 100
ALPHAS_OFFERED = (0.0, 0.25, 0.5, 0.75, 1.0)
AROUND = 4000
"""Characters of a document that are shown on each side of a passage."""
DOCUMENTS = (
    Column(key="title", label="Document", one_line=False),
    Column(key="id", label="Id", mono=True),
    Column(key="characters", label="Characters", number=True),
    Column(key="chunks", label="Chunks", number=True),
)
FOUND = (
    Column(key="questions", label="Questions", one_line=False),
    Column(key="number", label="n", number=True),
    Column(key="before", label="As shipped", number=True),
    Column(key="after", label="Calibrated", number=True),
)
VERSIONS = (
    Column(key="version", label="Version", mono=True),
    Column(key="documents", label="Documents", number=True),
    Column(key="chunks", label="Chunks", number=True),
    Column(key="chunker", label="Cut", mono=True, one_line=False),
    Column(key="embedder", label="Embedded", mono=True, one_line=False),
    Column(key="made", label="Built"),
)


class PassageShown(NamedTuple):
    """A found passage with the question's words marked."""

    passage: Passage
    pieces: list[tuple[bool, str]]
    href: str


def show(visit: Visit) -> View:
    workspace = visit.workspace
    name = workspace.settings.retrieve.index
    index = workspace.store.records.latest(Index, name)
    question = visit.ask("q").strip()
    data: dict[str, Any] = {
        "index": index,
        "name": name,
        "question": question,
        "jobs": work.running(workspace, kinds=JOBS),
        "passages": [],
        "where": visit.ask("where").strip(),
        "wrong": "",
        "gaps": None,
        "changed": None,
    }
    if index is not None:
        data |= {
            "figures": _figures(index),
            "version": f"{index.name}@{index.version}",
            **_calibration(index),
            **_calibrating(visit),
            "versions": _versions(workspace, name),
            "documents": _documents(index, visit),
            "alpha": f"{_alpha(visit, index):g}",
            "alphas": [f"{value:g}" for value in sorted({*ALPHAS_OFFERED, index.search.alpha, _alpha(visit, index)})],
            **_comparison(workspace),
        }
        if question:
            # The field searches as one types: a reranker would be paid for every letter.
            search = replace(index.search, alpha=_alpha(visit, index), reranker="")
            try:
                found = search_index(
                    workspace, index, question, settings=search, where=known_where(visit.ask("where").strip())
                )
                data["passages"] = [_shown(passage, question, index) for passage in found]
            except InputError as wrong:
                data["wrong"] = str(wrong)
        if visit.ask("part") == "gaps":
            visit.require("see_content")
            data["gaps"] = find_gaps(workspace, index)
        if visit.ask("part") == "changed":
            loaded = load_sources(workspace, name=name)
            data["changed"] = outdated(index, loaded.documents)
            data["unreadable"] = loaded.unreadable
    return View("retrieve.html", "Retrieve", data, (Crumb("Retrieve"),))


def show_document(visit: Visit) -> View:
    """A document as the index knows it, with one passage marked."""
    workspace = visit.workspace
    index = _index(visit)
    document = read_document(workspace, index, visit.part("id"))
    start, end = (int(visit.ask(name)) if visit.ask(name).isdigit() else 0 for name in ("start", "end"))
    start, end = min(start, len(document.text)), min(max(start, end), len(document.text))
    first, last = max(0, start - AROUND), min(len(document.text), (end or AROUND) + AROUND)
    data = {
        "document": document,
        "index": index,
        "before": document.text[first:start],
        "marked": document.text[start:end],
        "after": document.text[end:last],
        "cut_before": first > 0,
        "cut_after": last < len(document.text),
        "facts": [
            ("Source", document.source),
            ("Characters", count(len(document.text))),
            ("Index", f"{index.name}@{index.version}"),
            *((name, value) for name, value in document.metadata.items() if name != "file_hash"),
        ],
    }
    crumbs = (Crumb("Retrieve", "/retrieve"), Crumb(document.title))
    return View("document.html", document.title, data, crumbs)


def build(visit: Visit) -> Done:
    visit.start("build_index", "Build the index")
    return Done("/retrieve", "The index is being built; what did not change is kept.")


def compare(visit: Visit) -> Done:
    visit.start("compare_settings", "Compare settings")
    return Done("/retrieve", "Chunk sizes and fusions are being compared on your questions.")


def apply(visit: Visit) -> Done:
    """The best setting of the comparison that was looked at, as `slipway retrieve compare --apply` sets it."""
    visit.require("build_index")
    found = visit.workspace.store.records.get(SettingsComparison, visit.said("comparison"))
    force = visit.said("force")
    if not found.clear and force != "yes":
        raise NoClearDifference(found.verdict)
    visit.start("apply_settings", "Apply the best setting", comparison=found.id, force=force)
    return Done("/retrieve", "The best setting is being written into slipway.toml, and its index is being built.")


def calibrate(visit: Visit) -> Done:
    """Asks labelled questions of an index version, as `slipway retrieve calibrate` does. Checked before it starts."""
    workspace = visit.workspace
    index = load_index(workspace, visit.said("index"))
    false_alarms = _rate(visit.said("false_alarms", RATE))
    cases, source = _given_cases(visit)
    labelled = check_cases(index, cases, false_alarms=false_alarms)
    dataset = source
    if not visit.said("dataset"):
        kept = save_cases(workspace, PASTED, cases, source=source)
        dataset = f"{kept.name}@{kept.version}"
    name = f"{index.name}@{index.version}"
    visit.start("calibrate_index", f"Calibrate {name}", index=name, dataset=dataset, false_alarms=false_alarms)
    return Done(
        "/retrieve#gap-list", f"{plural(len(labelled.answered), 'answered question')} of yours are being asked."
    )


def undo(visit: Visit) -> Done:
    index = undo_calibration(visit.workspace, load_index(visit.workspace, visit.said("index")))
    return Done("/retrieve#gap-list", f"{index.name}@{index.version} tells gaps as it was shipped.")


def mark_words(text: str, question: str) -> list[tuple[bool, str]]:
    """The text in pieces, each with whether it is a word that the question asks for (by stem)."""
    wanted = set(asked_stems(question))
    pieces: list[tuple[bool, str]] = []
    for piece in WORD.split(text):
        hit = piece.isalnum() and bool(wanted.intersection(content_words(piece)))
        if pieces and pieces[-1][0] == hit:
            pieces[-1] = (hit, pieces[-1][1] + piece)
        elif piece:
            pieces.append((hit, piece))
    return pieces


def _index(visit: Visit) -> Index:
    return load_index(visit.workspace, visit.ask("index") or visit.workspace.settings.retrieve.index)


def _shown(passage: Passage, question: str, index: Index) -> PassageShown:
    place = f"?start={passage.start}&end={passage.end}&index={index.name}@{index.version}"
    return PassageShown(passage, mark_words(passage.text, question), f"/retrieve/document/{passage.document}{place}")


def _alpha(visit: Visit, index: Index) -> float:
    try:
        return min(1.0, max(0.0, float(visit.ask("alpha"))))
    except ValueError:
        return index.search.alpha


def _figures(index: Index) -> list[tuple[str, str, str]]:
    return [
        ("Documents", count(len(index.documents)), f"{index.name}@{index.version}"),
        ("Chunks", count(index.chunks), index.chunker),
        ("Search", "words and meaning" if index.dimensions else "words only", index.embedder or "no embedder"),
        ("Weight of words", significant(index.search.alpha), f"cut at {share(index.search.cut)} of the best"),
        ("Not covered below", significant(index.unanswered_below), _calibrated_on(index)),
    ]


def _calibrated_on(index: Index) -> str:
    own = index.calibration
    return f"calibrated on {plural(own.questions, 'question')} of yours" if own else "calibrated probability"


def _calibration(index: Index) -> dict[str, Any]:
    """How the gaps are calibrated, for the head of their list; `calibration` is empty where they are not."""
    own = index.calibration
    if own is None or index.coverage is None:
        return {"calibration": "", "carried": False}
    here, of = f"{index.name}@{index.version}", own.index
    line = describe_calibration(own) + ("" if of == here else f"; asked of {of}")
    rows = [
        Row(
            cells={
                "questions": f"{what[0].upper()}{what[1:]}",
                "number": count(found.of),
                "before": _share_of(found.before, found.of),
                "after": _share_of(found.after, found.of),
            }
        )
        for what, found in found_rows(own)
    ]
    return {
        "calibration": f"{line[0].upper()}{line[1:]}.",
        "carried": of != here,
        "cut_off": [
            ("Cut-off", f"{significant(1 / (1 + math.exp(-own.cutoff)))} of the shipped model"),
            ("As shipped", significant(index.coverage.threshold)),
        ],
        "found": Table(caption="Questions found by the calibration", columns=FOUND, rows=rows, compact=True),
        "unseen": most_unseen(own),
    }


def _share_of(part: int, of: int) -> str:
    low, high = wilson(part, of)
    return f"{100 * part / of:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def _calibrating(visit: Visit) -> dict[str, Any]:
    """The form to calibrate, with what was put in where it was refused."""

    def datasets() -> list[tuple[str, str]]:
        """Datasets that people wrote; read only where the form itself is shown."""
        workspace = visit.workspace
        own = [QUESTIONS] * bool(workspace.settings.application.questions)
        written = [dataset.name for dataset in workspace.store.records.list(Dataset) if not dataset.made]
        return [("", "pasted below, or in the file"), *((name, name) for name in dict.fromkeys([*own, *written]))]

    return {
        "refused_calibration": "false_alarms" in visit.form,
        "pasted": visit.said("questions"),
        "rate": visit.said("false_alarms", RATE),
        "chosen": visit.said("dataset"),
        "datasets": datasets,
    }


def _rate(percent: str) -> float:
    try:
        rate = float(percent.replace(",", ".")) / 100
    except ValueError:
        rate = 0.0
    if not 0.001 <= rate <= 0.5:
        raise InputError(f"'{percent}' is no rate of false alarms. Give one from 0.1 to 50 per cent.")
    return rate


def _given_cases(visit: Visit) -> tuple[Sequence[Case], str]:
    """The questions of the form and where they come from. Raises `InputError` where none or several are given."""
    file, pasted, dataset = visit.files.get("file"), visit.said("questions"), visit.said("dataset")
    content = file.content if file is not None else b""
    ways = [bool(content), bool(pasted), bool(dataset)]
    if sum(ways) != 1:
        much = "No question was given. Paste some" if not any(ways) else "Questions were given twice. Paste them"
        raise InputError(f"{much}, or choose a file, or choose a dataset.")
    if dataset:
        file_of_settings = dataset == QUESTIONS and visit.workspace.settings.application.questions
        found = default_dataset(visit.workspace) if file_of_settings else load_dataset(visit.workspace, dataset)
        return found.cases, f"{found.name}@{found.version}"
    if content and file is not None:
        return parse_cases(content, Path(file.name)), file.name
    if pasted.startswith("{"):
        return parse_cases(pasted.encode(), Path("pasted questions")), "pasted"
    lines = dict.fromkeys(" ".join(line.split()) for line in pasted.splitlines() if line.strip())
    return [Case(id=hash_text(line)[:12], question=line, answerable=True) for line in lines], "pasted"


def _versions(workspace: Workspace, name: str) -> Table:
    found: Sequence[Index] = workspace.store.records.list(Index, name=name, limit=20)
    rows = [
        Row(
            cells={
                "version": f"{index.name}@{index.version}",
                "documents": count(len(index.documents)),
                "chunks": count(index.chunks),
                "chunker": index.chunker,
                "embedder": index.embedder or "–",
                "made": moment(index.created_at),
            }
        )
        for index in found
    ]
    return Table(caption="Versions", columns=VERSIONS, rows=rows, compact=True)


def _documents(index: Index, visit: Visit) -> Table:
    rows = [
        Row(
            href=f"/retrieve/document/{entry.id}",
            cells={
                "title": entry.title or entry.id,
                "id": entry.id,
                "characters": count(entry.characters),
                "chunks": count(entry.chunks),
            },
            order={
                "title": (entry.title or entry.id).lower(),
                "id": entry.id,
                "characters": entry.characters,
                "chunks": entry.chunks,
            },
        )
        for entry in index.documents
    ]
    query = dict(visit.request.query_params)
    columns, ordered = sort_rows(DOCUMENTS, rows, path="/retrieve", query=query, default="title")
    return Table(caption="Documents", columns=columns, rows=ordered[:MOST_DOCUMENTS], compact=True)


def _comparison(workspace: Workspace) -> dict[str, Any]:
    """The newest comparison of settings: a heat map of chunk size by fusion, each at its best cut."""
    found = workspace.store.records.latest(SettingsComparison, workspace.settings.retrieve.index)
    if found is None:
        return {"comparison": None}
    cuttings = sorted({(row.chunker, row.size) for row in found.rows})
    alphas = sorted({row.alpha for row in found.rows})
    best = {
        (row.chunker, row.size, row.alpha): row
        for row in sorted(found.rows, key=lambda row: (row.ndcg.value, row.recall.value))
    }
    one_chunker = len({chunker for chunker, _ in cuttings}) == 1
    heat = HeatMap(
        title=f"nDCG@{DEPTH} by chunk size and weight of words",
        corner="tokens a chunk × weight of words",
        rows_named=[str(size) if one_chunker else f"{chunker} {size}" for chunker, size in cuttings],
        columns_named=[f"{alpha:g}" for alpha in alphas],
        values=[
            [best[*cutting, alpha].ndcg.value if (*cutting, alpha) in best else None for alpha in alphas]
            for cutting in cuttings
        ],
        notes={
            (row, column): _sure(best[*cutting, alpha].ndcg)
            for row, cutting in enumerate(cuttings)
            for column, alpha in enumerate(alphas)
            if (*cutting, alpha) in best
        },
        best=(cuttings.index((found.best.chunker, found.best.size)), alphas.index(found.best.alpha)),
    )
    made = ", made by Slipway from the documents" if found.made else ""
    return {
        "comparison": found,
        "heat": heat,
        "compared": f"{plural(found.questions, 'question')}{made}, {moment(found.created_at)}",
        "best": [
            ("Chunks", f"{found.best.chunker}, {found.best.size} tokens"),
            ("Weight of words", significant(found.best.alpha)),
            ("Cut", f"{share(found.best.cut)} of the best score"),
            (f"nDCG@{DEPTH}", f"{significant(found.best.ndcg.value)} ({_sure(found.best.ndcg)})"),
            ("Recall", f"{significant(found.best.recall.value)} ({_sure(found.best.recall)})"),
            ("Tokens sent", count(found.best.tokens)),
        ],
        "lines": _settings_lines(workspace, found),
    }


def _sure(measure: Measure) -> str:
    return interval(measure.low, measure.high).replace(" to ", "–")


def _settings_lines(workspace: Workspace, found: SettingsComparison) -> str:
    """The best setting as lines for slipway.toml."""
    values = best_values(workspace, found.best)
    return "\n".join(["[retrieve]", *(f"{key} = {write_value(value)}" for key, value in values.items())])


ROUTES = [
    page("/retrieve", show, needs="see_content"),
    act("/retrieve/build", build, back=show, needs="build_index"),
    act("/retrieve/compare", compare, back=show, needs="build_index"),
    act("/retrieve/apply", apply, back=show, needs="change_settings"),
    act("/retrieve/calibrate", calibrate, back=show, needs="build_index"),
    act("/retrieve/calibrate/undo", undo, back=show, needs="build_index"),
    page("/retrieve/document/{id:path}", show_document, needs="see_content"),
]
