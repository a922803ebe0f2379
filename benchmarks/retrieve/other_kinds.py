"""Whether the stated rate of false alarms holds on indexes of other kinds than the model was fitted on.

The small collections lie beside this file, with the questions that each document answers and questions that none does:
a handbook in English, one in German, Chinese and Arabic, tables, and code. From the development data come claims over
abstracts (SciFact), one long document each (the corpora of the chunking questions), and the last turns of conversations
about a cloud and a government (MTRAG), where follow-ups lean on what was said before. Where a kind has no questions
that nothing answers, those of the other kinds of the development data stand for them.

Each kind is then calibrated on a random half of its covered questions, as `slipway retrieve calibrate` does, and asked
the other half; over many halves. A half of fewer than 19 cannot keep 5 %: then the lowest rate that it can keep is
asked for.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from data import DATA, Figure, print_table, read_rows

from slipway.retrieve.calibration import conformal_cutoff
from slipway.retrieve.coverage import FALSE_ALARMS, probability
from slipway.retrieve.index import build_index
from slipway.retrieve.query import embed_questions, search_legs
from slipway.retrieve.signals import Known, describe_search
from slipway.workspace import open_workspace

KINDS = Path(__file__).resolve().parent / "kinds"
MOST = 300
"""Questions of a kind that are asked."""
HALVES = 2000
BORROWED = 60
"""Questions of other kinds that stand for those that nothing answers."""
SETTINGS = '[application]\nname = "kinds"\n\n[retrieve]\nembedder = {{ kind = "{embedder}" }}\n'


class Question(NamedTuple):
    """A question with the names of the documents that answer it (none: not covered), and the spans in a long one."""

    text: str
    documents: tuple[str, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """Files by name, and questions about them."""

    name: str
    files: dict[str, str]
    questions: list[Question]
    borrowed: list[Question] = field(default_factory=list)


class Told(NamedTuple):
    """Scores of the questions that are covered, of those without their document, and of those that nothing covers."""

    threshold: float
    covered: list[float]
    dropped: list[float]
    foreign: list[float]


def small_kinds() -> Iterator[Kind]:
    for path in sorted(KINDS.glob("*.md")):
        files: dict[str, str] = {}
        questions: list[Question] = []
        for section in re.split(r"(?m)^# ", path.read_text(encoding="utf-8"))[1:]:
            title, _, body = section.partition("\n")
            asked = re.findall(r"(?m)^\? (.+)$", body)
            text = re.sub(r"(?m)^\? .+\n?", "", body).strip()
            if title == "-":
                questions += [Question(question) for question in asked]
                continue
            name = title if title.endswith(".csv") else f"{title}.md"
            # Code stands in a Markdown file of its own, as a wiki would have it.
            fenced = f"```python\n{text}\n```" if title.endswith(".py") else text
            files[name] = text + "\n" if name.endswith(".csv") else f"# {title}\n\n{fenced}\n"
            questions += [Question(question, (name,)) for question in asked]
        yield Kind(path.stem, files, questions)


def development_kinds() -> Iterator[Kind]:
    corpus = read_rows("retrieval/scifact/corpus.jsonl.gz")
    files = {f"{row['id']}.md": f"# {row['title']}\n\n{row['text']}\n" for row in corpus}
    claims = read_rows("retrieval/scifact/queries.jsonl.gz")
    asked = [Question(row["query"], tuple(f"{id}.md" for id in row["relevant"])) for row in claims]
    yield Kind("scifact", files, asked)
    rows = read_rows("retrieval/chunking/questions.jsonl.gz")
    for row in read_rows("retrieval/chunking/corpora.jsonl.gz"):
        name = f"{row['id']}.txt"
        yield Kind(
            f"one long document: {row['id']}",
            {name: row["text"]},
            [
                Question(one["query"], (name,), tuple((start, end) for start, end in one["spans"]))
                for one in rows
                if one["doc"] == row["id"]
            ],
        )
    for collection in ("ibmcloud", "govt"):
        tasks = [row for row in read_rows("retrieval/mtragun/tasks.jsonl.gz") if row["collection"] == collection]
        texts = {f"{one['id']}.md": one["text"] for row in tasks for one in row["contexts"]}
        yield Kind(
            f"conversations: {collection}",
            texts,
            [
                Question(row["turns"][-1][1], tuple(f"{one['id']}.md" for one in row["contexts"]))
                for row in tasks
                if row["label"] == "ANSWERABLE"
            ],
        )


def ask(kind: Kind, embedder: str) -> Told:
    """Builds the index as a user would, and asks every question with and without the documents that answer it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "documents").mkdir()
        (folder / "slipway.toml").write_text(SETTINGS.format(embedder=embedder), encoding="utf-8")
        for file, text in kind.files.items():
            (folder / "documents" / file.replace("/", "_")).write_text(text, encoding="utf-8")
        with open_workspace(folder) as workspace:
            index = build_index(workspace)
            reader = workspace.indexes.open(index.hash)
            known = Known(reader, workspace.embedder if index.dimensions else None)
            asked = random.Random(4).sample(kind.questions, min(MOST, len(kind.questions)))
            asked += kind.borrowed
            vectors = embed_questions(workspace, index, [question.text for question in asked])
            told = Told(index.unanswered_below, [], [], [])
            for place, question in enumerate(asked):
                vector = None if vectors is None else vectors[place]
                legs = search_legs(reader, question.text, vector, index.search)

                def score(dropped: Sequence[int] = (), question=question, legs=legs, vector=vector) -> float:
                    row = describe_search(
                        known, question.text, legs, vector=vector, alpha=index.search.alpha, dropped=dropped
                    )
                    return probability(row, index)

                if not question.documents:
                    told.foreign.append(score())
                    continue
                told.covered.append(score())
                own = [number for one in question.documents for number in reader.chunk_numbers(one.replace("/", "_"))]
                if question.spans:
                    chunks = reader.chunks(own)
                    own = [
                        number
                        for number, chunk in zip(own, chunks, strict=True)
                        if any(start < chunk.end and end > chunk.start for start, end in question.spans)
                    ]
                told.dropped.append(score(own))
            return told


class Calibrated(NamedTuple):
    """Shares in per cent over random halves: the mean, and for false alarms where 95 % of the halves lie."""

    rate: float
    asked: int
    alarms: float
    low: float
    high: float
    dropped: float
    foreign: float


def calibrate_on_halves(told: Told, *, halves: int = HALVES, seed: int = 5) -> Calibrated:
    """Calibrated on one half of the covered questions, measured on the other, also for what is dropped."""
    drawn = random.Random(seed)
    size = len(told.covered) // 2
    rate = max(FALSE_ALARMS, 1 / (size + 1))
    alarms, dropped, foreign = [], [], []
    for _ in range(halves):
        order = drawn.sample(range(len(told.covered)), len(told.covered))
        cutoff = conformal_cutoff([told.covered[place] for place in order[:size]], rate)
        alarms.append(share_below([told.covered[place] for place in order[size:]], cutoff))
        dropped.append(share_below([told.dropped[place] for place in order[size:]], cutoff))
        foreign.append(share_below(told.foreign, cutoff))
    alarms.sort()
    return Calibrated(
        100 * rate,
        size,
        sum(alarms) / halves,
        alarms[int(0.025 * halves)],
        alarms[int(0.975 * halves)],
        sum(dropped) / halves,
        sum(foreign) / halves,
    )


def borrow_questions(kinds: Sequence[Kind], name: str) -> list[Question]:
    """Questions of the other kinds, the same number of each, as questions that nothing answers."""
    others = [kind for kind in kinds if kind.name != name]
    drawn = random.Random(6)
    each = -(-BORROWED // len(others))
    return [
        Question(question.text)
        for kind in others
        for question in drawn.sample(kind.questions, min(each, len(kind.questions)))
    ][:BORROWED]


def share_below(scores: Sequence[float], threshold: float) -> float:
    return 100 * sum(score < threshold for score in scores) / max(len(scores), 1)


def main() -> int:
    """For each kind and embedder, as shipped and calibrated: false alarms, and what is found of what is not covered."""
    figures = []
    large = list(development_kinds()) if DATA.is_dir() else []
    large = [replace(kind, borrowed=borrow_questions(large, kind.name)) for kind in large]
    kinds = [*small_kinds(), *large]
    wanted = sys.argv[1:]
    for embedder in ("none", "minilm"):
        for kind in kinds:
            if wanted and not any(word in kind.name for word in wanted):
                continue
            told = ask(kind, embedder)
            how = "words" if embedder == "none" else "words and vectors"
            note = (
                f"of {len(told.covered)}; document left out: {share_below(told.dropped, told.threshold):.0f} % found, "
                f"foreign: {share_below(told.foreign, told.threshold):.0f} % of {len(told.foreign)}, "
                f"threshold {told.threshold:.2f}"
            )
            alarms = share_below(told.covered, told.threshold)
            figures.append(Figure(f"{kind.name}, {how}: false alarms", alarms, "%", note=note))
            own = calibrate_on_halves(told)
            note = (
                f"{own.rate:.1f} % asked for, on {own.asked} questions; halves {own.low:.0f} to {own.high:.0f} %; "
                f"document left out: {own.dropped:.0f} % found, foreign: {own.foreign:.0f} % of {len(told.foreign)}"
            )
            figures.append(Figure(f"{kind.name}, {how}: calibrated on half", own.alarms, "%", note=note))
    return print_table("Whether the stated 5 % of false alarms holds on other kinds of documents", figures)


if __name__ == "__main__":
    sys.exit(main())
