"""Finds the questions that the documents do not cover, by topic, with the document to write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from slipway.domain.index import Index
from slipway.retrieve.coverage import answerable_probability, probability
from slipway.retrieve.fusion import fuse, weigh
from slipway.retrieve.query import embed_questions, search_legs
from slipway.retrieve.signals import Known, describe_search
from slipway.retrieve.topics import group_questions, name_topic
from slipway.workspace import Workspace

__all__ = ["Gap", "Judged", "answerable_probability", "find_gaps", "judge_questions", "questions_from_traces"]

NEAREST = 3
SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A topic that the documents do not cover. `volume` counts how often its questions were asked."""

    topic: str
    questions: tuple[str, ...]
    volume: int
    nearest: tuple[str, ...]
    """Documents that come closest, the closest first."""
    probability: float
    """Mean probability that the documents cover these questions."""
    suggestion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A question with the probability that the documents cover it, and the documents that come closest."""

    question: str
    volume: int
    probability: float
    covered: bool
    nearest: tuple[str, ...]


def find_gaps(
    workspace: Workspace,
    index: Index,
    questions: Iterable[str] | None = None,
    *,
    since: datetime | None = None,
) -> list[Gap]:
    """Topics that the documents do not cover, the most asked first.

    `questions` may repeat: that is their volume. Without them those of the traces are taken. A question that the
    documents do cover is no gap, even where the answer failed. Raises `EmbedderChanged`, `NotFound`.
    """
    asked = questions_from_traces(workspace, index, since=since) if questions is None else questions
    missing = [judged for judged in judge_questions(workspace, index, asked) if not judged.covered]
    texts = [judged.question for judged in missing]
    embedder = workspace.embedder if index.dimensions else None
    gaps = [
        _gap([missing[place] for place in group], [text for place, text in enumerate(texts) if place not in set(group)])
        for group in group_questions(texts, embedder)
    ]
    return sorted(gaps, key=lambda gap: (-gap.volume, gap.topic))


def judge_questions(workspace: Workspace, index: Index, questions: Iterable[str]) -> list[Judged]:
    """Each distinct question with its volume and whether the documents cover it, in the order first asked."""
    reader = workspace.indexes.open(index.hash)
    known = Known(reader, workspace.embedder if index.dimensions else None)
    asked = Counter(" ".join(question.split()) for question in questions if question.strip())
    vectors = embed_questions(workspace, index, list(asked)) if asked else None
    judged = []
    for place, (question, volume) in enumerate(asked.items()):
        vector = None if vectors is None else vectors[place]
        legs = search_legs(reader, question, vector, index.search)
        row = describe_search(known, question, legs, vector=vector, alpha=index.search.alpha)
        chance = probability(row, index)
        hits = fuse(legs.lexical, legs.dense, alpha=weigh(index.search, dense=index.dimensions > 0))[:NEAREST]
        nearest = dict.fromkeys(chunk.document for chunk in reader.chunks([hit.chunk for hit in hits]))
        judged.append(
            Judged(
                question=question,
                volume=volume,
                probability=chance,
                covered=chance >= index.unanswered_below,
                nearest=tuple(nearest),
            )
        )
    return judged


def questions_from_traces(workspace: Workspace, index: Index, *, since: datetime | None = None) -> Iterator[str]:
    """What was asked of releases with this index (any version), the newest first."""
    after: str | None = None
    while True:
        page = workspace.store.traces.list(since=since, limit=200, after=after)
        for row in page.rows:
            root = workspace.store.traces.get(row.id).root
            question = root.content.get("question")
            if isinstance(question, str) and root.index.split("@")[0] == index.name:
                yield question
        after = page.next
        if after is None:
            return


def _gap(members: Sequence[Judged], others: Sequence[str]) -> Gap:
    questions = [member.question for member in members]
    topic = name_topic(questions, others)
    near: Counter[str] = Counter()
    for member in members:
        for rank, document in enumerate(member.nearest):
            near[document] += NEAREST - rank
    asked = sorted(members, key=lambda member: (-member.volume, member.question))
    examples = "; ".join(member.question for member in asked[:SHOWN])
    return Gap(
        topic=topic,
        questions=tuple(member.question for member in asked),
        volume=sum(member.volume for member in members),
        nearest=tuple(document for document, _ in near.most_common(NEAREST)),
        probability=sum(member.probability for member in members) / len(members),
        suggestion=f"Write a document about {topic} that answers: {examples}",
    )
