"""Compares ways to cut, embed, fuse and cut off on the same questions, with intervals, and names the best."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec

from slipway.domain.dataset import Case
from slipway.domain.document import Chunk, Document
from slipway.domain.errors import InputError, did_you_mean
from slipway.domain.ids import ContentHash, hash_parts, hash_text, new_id
from slipway.domain.index import SearchSettings, Similarity
from slipway.domain.release import Measure
from slipway.domain.settings_comparison import SettingsComparison, SettingsResult
from slipway.embedders.base import Embedder
from slipway.intervals import mean_interval, paired_bootstrap
from slipway.retrieve.fusion import Fused, cut_off, fuse
from slipway.retrieve.index import (
    FORMAT,
    cut_documents,
    embed_with,
    hash_documents,
    load_sources,
    make_chunker,
    search_settings,
)
from slipway.retrieve.query import Legs, search_legs
from slipway.retrieve.questions import MADE
from slipway.retrieve.ranking import ndcg_at, reciprocal_rank
from slipway.vectors.sqlite import SQLiteIndexes
from slipway.workspace import Workspace

SIZES = (100, 200, 400)
ALPHAS = (0.3, 0.45, 0.6)
CUTS = (0.65, 0.76, 0.88)
RECALL_GIVEN = 0.02
"""Recall that a cut which returns fewer tokens may cost at most, at the lower end of its interval."""
EMBEDDING = 0.7
"""Share of the work on one way to cut that is counted for its embedding."""


class Setting(NamedTuple):
    """One combination. `embedder` is its id, empty for words only."""

    chunker: str
    size: int
    embedder: str
    similarity: Similarity
    alpha: float
    cut: float

    def __str__(self) -> str:
        meaning = f"{self.similarity}, alpha {self.alpha:g}" if self.embedder else "words only"
        return f"{self.chunker} of {self.size} tokens, {meaning}, cut {self.cut:g}"


class Outcome(NamedTuple):
    """What one question gave under one setting. Precision and IoU are 0 where the answer's place is not known."""

    ndcg: float
    recall: float
    mrr: float
    tokens: int
    precision: float = 0.0
    iou: float = 0.0


@dataclass(frozen=True, slots=True)
class Searched:
    """Both legs of every question over one way to cut and embed, with what judging needs."""

    size: int
    legs: list[Legs]
    chunks: list[Chunk]
    tokens: list[int]


class Cutting(NamedTuple):
    """Documents as they are cut and embedded in one way."""

    chunker: str
    size: int
    embedder: Embedder | None


def compare_settings(
    workspace: Workspace,
    *,
    cases: Sequence[Case],
    documents: Sequence[Document] | None = None,
    chunkers: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    embedders: Sequence[Embedder | None] | None = None,
    similarities: Sequence[Similarity] | None = None,
    alphas: Sequence[float] | None = None,
    cuts: Sequence[float] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_percent: Callable[[int, int], None] | None = None,
) -> SettingsComparison:
    """Every combination on every case that says where its answer stands (`spans`, else `documents`); saved.

    `on_progress` counts ways to cut and embed, `on_percent` hundredths of the whole with what happens inside of one.
    Chunker, embedder and similarity are those of slipway.toml unless more are named. A run that was stopped goes on
    where it was. The best is the one with the highest nDCG@10; of its cuts the sharpest that costs at most one point
    of recall. Without an embedder alpha and similarity do not count and only one is tried. Raises `InputError` when no
    case can be judged, `ConfigError` for a chunker that is not there.
    """
    judged = [case for case in cases if case.answerable is not False and (case.spans or case.documents)]
    if not judged:
        raise InputError(
            "No case says where its answer stands. Give cases with `spans` or `documents`, or leave them out: "
            "questions are then made from the documents."
        )
    documents = documents if documents is not None else load_sources(workspace).documents
    search = search_settings(workspace)
    table = dict(workspace.settings.retrieve.chunker)
    here, kind = int(table.get("size", 200)), str(table.get("kind", "recursive"))
    chosen = list(embedders) if embedders is not None else [workspace.embedder]
    cuttings = [
        Cutting(chunker, size, embedder)
        for chunker in dict.fromkeys(chunkers or (kind,))
        for size in sorted(set(sizes or (*SIZES, here)))
        for embedder in chosen
    ]
    tried = Tried(
        similarities=tuple(dict.fromkeys(similarities or (search.similarity,))),
        alphas=tuple(sorted(set(alphas or (*ALPHAS, search.alpha)))),
        cuts=tuple(sorted(set(cuts or (*CUTS, search.cut)))),
    )
    kept = Kept(workspace.state / "comparisons", documents, judged, tried, search.limit)
    outcomes: dict[Setting, list[Outcome]] = {}
    for number, cutting in enumerate(cuttings):
        made = kept.read(cutting)
        if made is None:
            given: dict[str, object] = (
                {**table, "kind": cutting.chunker} if cutting.chunker == kind else {"kind": cutting.chunker}
            )

            def tell(share: float, number: int = number) -> None:
                if on_percent:
                    on_percent(int(100 * (number + share) / len(cuttings)), 100)

            made = _try_cutting(workspace, documents, judged, cutting, given, tried, search, tell)
            kept.write(cutting, made)
        outcomes |= made
        if on_progress:
            on_progress(number + 1, len(cuttings))
        if on_percent:
            on_percent(100 * (number + 1) // len(cuttings), 100)
    placed = all(case.spans for case in judged)
    rows = {setting: _summary(setting, found, placed=placed) for setting, found in outcomes.items()}
    best = choose_best(rows)
    own = workspace.embedder.id if workspace.embedder else ""
    current = Setting(kind, here, own, search.similarity, search.alpha, search.cut)
    current = current if own else current._replace(similarity=tried.similarities[0], alpha=1.0)
    evidence = _weigh_evidence(outcomes, best, current)
    comparison = SettingsComparison(
        id=new_id(),
        index=workspace.settings.retrieve.index,
        embedder=own,
        questions=len(judged),
        documents=len(documents),
        documents_hash=hash_documents(documents),
        made=all(MADE in case.tags for case in judged),
        rows=tuple(rows.values()),
        best=rows[best],
        current=rows.get(current),
        verdict=evidence.verdict,
        clear=evidence.clear,
        created_at=workspace.now(),
    )
    workspace.store.records.save(comparison)
    kept.clear()
    return comparison


class Tried(NamedTuple):
    """What is tried on each way to cut and embed."""

    similarities: tuple[Similarity, ...]
    alphas: tuple[float, ...]
    cuts: tuple[float, ...]


class Kept:
    """Outcomes of a run that is not done, in files of numbers only; another set of questions has other files."""

    def __init__(
        self, folder: Path, documents: Sequence[Document], cases: Sequence[Case], tried: Tried, limit: int
    ) -> None:
        self._folder = folder
        asked = [[case.id, hash_text(case.question), list(case.spans), list(case.documents)] for case in cases]
        self._run = hash_parts(
            {"format": FORMAT, "documents": hash_documents(documents), "cases": asked, "tried": tried, "limit": limit}
        )

    def read(self, cutting: Cutting) -> dict[Setting, list[Outcome]] | None:
        """None where this was not tried yet, or the file is broken."""
        try:
            pairs = msgspec.json.decode(self._path(cutting).read_bytes(), type=list[tuple[Setting, list[Outcome]]])
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        return dict(pairs)

    def write(self, cutting: Cutting, outcomes: Mapping[Setting, list[Outcome]]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(cutting)
        half = path.with_suffix(f".{os.getpid()}.half")
        half.write_bytes(msgspec.json.encode(list(outcomes.items())))
        half.replace(path)

    def clear(self) -> None:
        for path in self._folder.glob(f"{self._run[:16]}-*"):
            path.unlink(missing_ok=True)

    def _path(self, cutting: Cutting) -> Path:
        embedder = cutting.embedder.id if cutting.embedder else ""
        what = hash_parts({"chunker": cutting.chunker, "size": cutting.size, "embedder": embedder})
        return self._folder / f"{self._run[:16]}-{what[:16]}.json"


def _try_cutting(
    workspace: Workspace,
    documents: Sequence[Document],
    cases: Sequence[Case],
    cutting: Cutting,
    table: dict[str, object],
    tried: Tried,
    search: SearchSettings,
    on_share: Callable[[float], None],
) -> dict[Setting, list[Outcome]]:
    """Cut and embedded once, searched once by each similarity; fused and cut off in every way."""
    embedder = cutting.embedder
    if embedder is None:
        tried = tried._replace(similarities=tried.similarities[:1], alphas=(1.0,))
    outcomes: dict[Setting, list[Outcome]] = {}
    wanted = {"overlap": 0, **table} if "overlap" in table else dict(table)
    if int(str(wanted.get("overlap", 0))) >= cutting.size:
        wanted["overlap"] = cutting.size // 2
    for similarity, searched in _search_all(
        workspace, documents, cases, embedder, wanted | {"size": cutting.size}, tried.similarities, on_share
    ):
        for alpha in tried.alphas:
            rankings = [fuse(legs.lexical, legs.dense, alpha=alpha) for legs in searched.legs]
            for cut in tried.cuts:
                setting = Setting(
                    cutting.chunker, cutting.size, embedder.id if embedder else "", similarity, alpha, cut
                )
                outcomes[setting] = [
                    judge(case, ranking, cut_off(ranking, cut=cut, limit=search.limit), searched)
                    for case, ranking in zip(cases, rankings, strict=True)
                ]
    return outcomes


def read_similarity(word: str) -> Similarity:
    """Raises `InputError` for a word that is no similarity."""
    for known in get_args(Similarity):
        if word == known:
            return known  # type: ignore[no-any-return]
    raise InputError(f"'{word}' is no similarity.{did_you_mean(word, get_args(Similarity))}")


def choose_best(rows: Mapping[Setting, SettingsResult]) -> Setting:
    """The one with the highest nDCG@10, and of its cuts the sharpest that costs at most one point of recall."""
    winner = max(rows, key=lambda setting: (rows[setting].ndcg.value, -setting.size))
    same = [setting for setting in rows if setting[:-1] == winner[:-1]]
    most = max(rows[setting].recall.value for setting in same)
    return max((one for one in same if rows[one].recall.value >= most - 0.01), key=lambda one: one.cut)


def judge(case: Case, ranking: Sequence[Fused], kept: Sequence[Fused], searched: Searched) -> Outcome:
    """nDCG@10 and MRR of the ranking; recall (of the answer's characters, else of documents) and tokens of `kept`."""
    chunks = searched.chunks
    tokens = sum(searched.tokens[hit.chunk] for hit in kept)
    precision = iou = 0.0
    if case.spans:
        relevant = [_overlap(case, chunks[hit.chunk]) > 0 for hit in ranking]
        there = sum(_overlap(case, chunk) > 0 for chunk in chunks)
        returned = merge_spans(
            (chunks[hit.chunk].document, chunks[hit.chunk].start, chunks[hit.chunk].end) for hit in kept
        )
        marked = merge_spans(case.spans)
        shared = sum(max(0, min(b, d) - max(a, c)) for x, a, b in returned for y, c, d in marked if x == y)
        wanted = sum(end - start for _, start, end in marked)
        sent = sum(end - start for _, start, end in returned)
        recall = shared / wanted if wanted else 0.0
        precision = shared / sent if sent else 0.0
        iou = shared / (wanted + sent - shared) if shared else 0.0
    else:
        # Ranked by document: each counts once, at its best chunk.
        order = list(dict.fromkeys(chunks[hit.chunk].document for hit in ranking))
        relevant = [document in case.documents for document in order]
        there = len(set(case.documents))
        held = {chunks[hit.chunk].document for hit in kept}
        recall = len(held & set(case.documents)) / there
    return Outcome(ndcg_at(relevant, there), recall, reciprocal_rank(relevant), tokens, precision, iou)


def merge_spans(spans: Iterable[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """The same characters in spans that do not overlap, in order."""
    merged: list[tuple[str, int, int]] = []
    for document, start, end in sorted(spans):
        if merged and merged[-1][0] == document and start <= merged[-1][2]:
            merged[-1] = (document, merged[-1][1], max(end, merged[-1][2]))
        else:
            merged.append((document, start, end))
    return merged


def _search_all(
    workspace: Workspace,
    documents: Sequence[Document],
    cases: Sequence[Case],
    embedder: Embedder | None,
    table: dict[str, object],
    similarities: Sequence[Similarity],
    on_share: Callable[[float], None],
) -> Iterator[tuple[Similarity, Searched]]:
    chunker, cut_id, tokens = make_chunker(table, embedder, state=workspace.state)
    chunks = cut_documents(documents, chunker, cut_id, tokens)
    embedded = embed_with(
        embedder, workspace, documents, chunks, on_progress=lambda done, total: on_share(EMBEDDING * done / total)
    )
    vectors = embedder.embed([case.question for case in cases]) if embedder is not None else None
    lengths = [len(tokens.starts(chunk.text)) for chunk in chunks]
    # In the application's own folder, so that a run that is killed leaves no text elsewhere.
    with tempfile.TemporaryDirectory(prefix="compare-", dir=workspace.state) as folder:
        store = SQLiteIndexes(Path(folder))
        version = ContentHash(hash_parts({"chunker": cut_id}))
        store.write(version, documents=documents, chunks=chunks, vectors=embedded)
        reader = store.open(version)
        for number, similarity in enumerate(similarities):
            search = SearchSettings(similarity=similarity)
            legs = []
            for place, case in enumerate(cases):
                legs.append(search_legs(reader, case.question, None if vectors is None else vectors[place], search))
                if place % 20 == 0:
                    on_share(EMBEDDING + (1 - EMBEDDING) * (number + place / len(cases)) / len(similarities))
            yield similarity, Searched(int(str(table["size"])), legs, chunks, lengths)
        store.remove(version)


def _overlap(case: Case, chunk: Chunk) -> int:
    """Characters of the case's answer that lie in the chunk."""
    return sum(
        max(0, min(end, chunk.end) - max(start, chunk.start))
        for document, start, end in case.spans
        if document == chunk.document
    )


def _summary(setting: Setting, outcomes: Sequence[Outcome], *, placed: bool) -> SettingsResult:
    return SettingsResult(
        size=setting.size,
        alpha=setting.alpha,
        cut=setting.cut,
        ndcg=_measure("nDCG@10", (outcome.ndcg for outcome in outcomes)),
        recall=_measure("recall", (outcome.recall for outcome in outcomes)),
        mrr=_measure("MRR", (outcome.mrr for outcome in outcomes)),
        tokens=sum(outcome.tokens for outcome in outcomes) / len(outcomes),
        chunker=setting.chunker,
        embedder=setting.embedder,
        similarity=setting.similarity,
        precision=_measure("precision", (outcome.precision for outcome in outcomes)) if placed else None,
        iou=_measure("IoU", (outcome.iou for outcome in outcomes)) if placed else None,
    )


def _measure(name: str, values: Iterable[float]) -> Measure:
    scores = list(values)
    interval = mean_interval(scores)
    return Measure(name=name, value=sum(scores) / len(scores), low=interval.low, high=interval.high, n=len(scores))


class Evidence(NamedTuple):
    """Whether the best setting is clearly better than the one of slipway.toml, and that in a sentence."""

    clear: bool
    verdict: str


def _weigh_evidence(outcomes: Mapping[Setting, list[Outcome]], best: Setting, current: Setting) -> Evidence:
    """Paired over the questions: nDCG@10 clearly higher, or where only the cut differs, clearly better by the cut."""
    if current not in outcomes:
        return Evidence(
            False,
            "The settings of slipway.toml were not among those tried, so these were not compared with them.",
        )
    if current == best:
        return Evidence(False, "These are the settings of slipway.toml.")
    if current[:-1] == best[:-1]:
        return _weigh_cut(outcomes[current], outcomes[best])
    interval = paired_bootstrap(
        [after.ndcg - before.ndcg for before, after in zip(outcomes[current], outcomes[best], strict=True)]
    )
    if interval.low <= 0:
        return Evidence(False, "No clear difference to the settings of slipway.toml on these questions.")
    return Evidence(
        True,
        f"Better than the settings of slipway.toml by {interval.low * 100:.1f} to {interval.high * 100:.1f} points of "
        "nDCG@10 (95 % interval, paired).",
    )


def _weigh_cut(before: Sequence[Outcome], after: Sequence[Outcome]) -> Evidence:
    """A cut does not change the ranking: it is better where recall rises, or tokens fall and recall does not."""
    recall = paired_bootstrap([new.recall - old.recall for old, new in zip(before, after, strict=True)])
    tokens = paired_bootstrap([float(new.tokens - old.tokens) for old, new in zip(before, after, strict=True)])
    was = sum(outcome.tokens for outcome in before) or 1
    fewer = 100 * (1 - sum(outcome.tokens for outcome in after) / was)
    if recall.low > 0:
        return Evidence(
            True,
            f"Only its cut differs from slipway.toml: recall is higher by {recall.low * 100:.1f} to "
            f"{recall.high * 100:.1f} points (95 % interval, paired).",
        )
    if tokens.high < 0 and recall.low >= -RECALL_GIVEN:
        return Evidence(
            True,
            f"Only its cut differs from slipway.toml: {fewer:.0f} % fewer tokens, and recall falls by at most "
            f"{max(-recall.low, 0.0) * 100:.1f} points (95 % interval, paired).",
        )
    return Evidence(False, "Only its cut differs from slipway.toml, without a clear difference on these questions.")
