"""Fits the model that tells whether the documents cover a question, and measures the one that ships.

Each question is asked three times: of the whole index, without the article that answers it, and without the paragraph.
The same is done with 170 small indexes (one article, some paragraphs of a few, or one of each of many; one question in
four as keywords), so that the model holds for a handbook as well as for an encyclopaedia. Articles are held back from
the measurement's fit by turns, also from that of the reader of sentences; ClapNQ comes from the users of a search
engine. Beside it a harder index is made in which every other paragraph is missing, as it would be if nobody had
written them. `--weights` prints the fitted weights as they stand in `priors.py` and `reading.py`.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy
from data import CACHE, Figure, print_table, read_rows
from numpy.typing import NDArray

from slipway.domain.document import Chunk, Document
from slipway.domain.ids import hash_parts, hash_text
from slipway.domain.index import SearchSettings
from slipway.embedders.base import TokenVectors
from slipway.embedders.minilm import MiniLM
from slipway.retrieve.coverage import general_probability
from slipway.retrieve.embeddings import Embeddings
from slipway.retrieve.priors import PRIORS
from slipway.retrieve.query import Legs, search_legs
from slipway.retrieve.reading import OF_SENTENCE, Sentence, read_sentences
from slipway.retrieve.signals import BY_WORDS_ALONE, OF_SENTENCES, OF_VECTORS, SURE, Known, describe_search
from slipway.text.markdown import plain_text
from slipway.text.overlap import asked_words
from slipway.vectors.sqlite import SQLiteIndexes

Floats = NDArray[numpy.float64]
Features = dict[str, float]
RIDGE = 1e-4
FOLDS = 6
SMALL = 170
"""Small indexes that are drawn."""
SMALL_COUNTS = {"words": 0.1, "vectors": 0.3, "sentences": 0.3}
"""How much their questions count. By words alone more would cost gaps: what is missing looks like what is there."""
MODELS = {
    "words": BY_WORDS_ALONE,
    "vectors": (*BY_WORDS_ALONE, *OF_VECTORS),
    "sentences": (*BY_WORDS_ALONE, *OF_VECTORS, *OF_SENTENCES),
}
COVERED, NO_DOCUMENT, NO_PARAGRAPH = range(3)
REMEMBERED: dict[str, TokenVectors] = {}


class Row(NamedTuple):
    """Features of one question: of the whole index, without its document, without its paragraph (None: no such).

    `by_words` are those of a search without vectors, `read` the sentences that were read in each, with whether they
    hold the answer. `answerable` is the label.
    """

    group: str
    answerable: bool
    by_words: list[Features | None]
    with_vectors: list[Features | None]
    read: list[tuple[Floats, Floats] | None]

    def of(self, model: str) -> list[Features | None]:
        return self.by_words if model == "words" else self.with_vectors


class Asked(NamedTuple):
    """A question with its label, the chunks of its document and of its paragraph, and what answers it."""

    question: str
    group: str
    answerable: bool
    document: list[int]
    paragraph: list[int]
    answers: list[str]


class Remembering(MiniLM):
    """MiniLM that embeds no sentence twice, as the same are read for many questions."""

    def embed_tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        missing = [text for text in dict.fromkeys(texts) if text not in REMEMBERED]
        REMEMBERED.update(zip(missing, super().embed_tokens(missing), strict=True))
        return [REMEMBERED[text] for text in texts]


def squad(embedder: MiniLM) -> tuple[list[Row], list[Row], list[Row]]:
    """The questions asked of all paragraphs, the same asked of every other paragraph, and some of small indexes.

    In the second, those whose paragraph is not there are labelled as not answerable.
    """
    paragraphs = read_rows("retrieval/squad/paragraphs.jsonl.gz")
    rows = [row for row in read_rows("retrieval/squad/questions.jsonl.gz") if row["answerable"]]
    random.Random(1).shuffle(rows)
    articles: dict[str, list[int]] = defaultdict(list)
    places = {}
    for place, paragraph in enumerate(paragraphs):
        articles[paragraph["article"]].append(place)
        places[paragraph["id"]] = place
    titled = [(row["article"].replace("_", " "), row["text"]) for row in paragraphs]
    asked = []
    for row in rows:
        own, relevant = articles[row["article"]], [places[id] for id in row["relevant"]]
        asked.append(Asked(row["query"], row["article"], True, own, relevant, row["answers"]))
    every_other = [one._replace(answerable=one.paragraph[0] % 2 == 0, document=[], paragraph=[]) for one in asked]
    whole = describe(embedder, titled, asked)
    half = describe(embedder, titled[::2], every_other)
    return whole, half, list(small_indexes(embedder, titled, asked, articles))


def small_indexes(
    embedder: MiniLM, titled: Sequence[tuple[str, str]], asked: Sequence[Asked], articles: dict[str, list[int]]
) -> Iterator[Row]:
    """At most twelve questions that each covers, and four about other articles."""
    draw = random.Random(11)
    for number in range(SMALL):
        some, inside = draw_index(articles, number % 3, draw)
        places = {place: number for number, place in enumerate(inside)}
        covered = [one for one in asked if one.group in some and places.keys() & one.paragraph]
        foreign = [one for one in asked if one.group not in some]
        drawn = [
            one._replace(
                question=keywords(one.question, draw) if draw.random() < 0.25 else one.question,
                document=[places[place] for place in one.document if place in places],
                paragraph=[places[place] for place in one.paragraph if place in places],
            )
            for one in draw.sample(covered, min(12, len(covered)))
        ]
        some_foreign = draw.sample(foreign, min(4, len(foreign)))
        drawn += [one._replace(answerable=False, document=[], paragraph=[]) for one in some_foreign]
        yield from describe(embedder, [titled[place] for place in inside], drawn)


def draw_index(articles: dict[str, list[int]], kind: int, draw: random.Random) -> tuple[list[str], list[int]]:
    """Names of the articles and the paragraphs of one article, of a few, or one or two of each of many."""
    if kind == 0:
        name = draw.choice(sorted(articles))
        inside = list(articles[name])
        if draw.random() < 0.5:
            first = draw.randrange(max(1, len(inside) - 8))
            inside = inside[first : first + draw.randint(5, 30)]
        return [name], inside
    few = kind == 1
    names = draw.sample(sorted(articles), draw.randint(2, 4) if few else draw.randint(5, 24))
    inside = []
    for name in names:
        most = draw.randint(3, 12) if few else draw.randint(1, 2)
        inside += draw.sample(articles[name], min(most, len(articles[name])))
    return names, inside


def keywords(question: str, draw: random.Random) -> str:
    """Two to five of its words, as one types them into a search field."""
    found = asked_words(question)
    if len(found) < 3:
        return " ".join(found)
    places = sorted(draw.sample(range(len(found)), min(len(found), draw.randint(2, 5))))
    return " ".join(found[place] for place in places)


def clapnq(embedder: MiniLM) -> list[Row]:
    rows = read_rows("retrieval/clapnq/questions.jsonl.gz")
    same: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        same[row["title"]].append(place)
    asked = [
        Asked(row["query"], row["title"], bool(row["answerable"]), same[row["title"]], [place], [])
        for place, row in enumerate(rows)
    ]
    return describe(embedder, [(row["title"], row["passage"]) for row in rows], asked)


def describe(embedder: MiniLM, texts: Sequence[tuple[str, str]], asked: Sequence[Asked]) -> list[Row]:
    documents = [
        Document(id=str(place), title=title, text=text, source="", content_hash=hash_text(text))
        for place, (title, text) in enumerate(texts)
    ]
    chunks = [Chunk(document=one.id, start=0, end=len(one.text), text=one.text) for one in documents]
    with Embeddings(CACHE) as kept:
        vectors = kept.embed(embedder, [plain_text(text) for _, text in texts])
        questions = kept.embed(embedder, [one.question for one in asked])
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteIndexes(Path(folder))
        version = hash_parts({"coverage": len(texts)})
        store.write(version, documents=documents, chunks=chunks, vectors=vectors)
        known = Known(store.open(version), embedder)
        rows = []
        for one, vector in zip(asked, questions, strict=True):
            legs = search_legs(known.reader, one.question, vector, SearchSettings())
            row = Row(one.group, one.answerable, [], [], [])
            for part, dropped in enumerate(([], one.document, one.paragraph)):
                if (part and not dropped) or len(dropped) == len(texts):
                    found: tuple[Features | None, ...] = (None, None)
                    read = None
                else:
                    *found, read = describe_once(known, one, legs, vector, dropped)
                row.by_words.append(found[0])
                row.with_vectors.append(found[1])
                row.read.append(read)
            rows.append(row)
        store.close()
        return rows


def describe_once(
    known: Known, asked: Asked, legs: Legs, vector: Floats, dropped: Sequence[int]
) -> tuple[Features, Features, tuple[Floats, Floats] | None]:
    """Features by words, features with all that there is, and the sentences with whether they hold the answer."""
    alpha = SearchSettings().alpha
    lexical = Legs(lexical=legs.lexical, dense={})
    by_words = describe_search(known, asked.question, lexical, alpha=alpha, dropped=dropped)
    sentences: list[Sentence] = []
    with_all = describe_search(
        known, asked.question, legs, vector=vector, alpha=alpha, dropped=dropped, sure=math.inf, sentences=sentences
    )
    if not sentences:
        return by_words, with_all, None
    holds = [] if dropped or not asked.answerable else [chunk.text for chunk in known.chunks(asked.paragraph)]
    labels = [
        any(one.text in text for text in holds) and any(answer.lower() in one.text.lower() for answer in asked.answers)
        for one in sentences
    ]
    described = numpy.array([one.described for one in sentences], dtype=numpy.float32)
    return by_words, with_all, (described, numpy.array(labels, dtype=float))


def fit_reader(rows: Sequence[Row]) -> tuple[Floats, float]:
    """Weights and bias of the model that tells whether a sentence holds the answer."""
    read = [one for row in rows for one in row.read if one is not None]
    x, y = (numpy.concatenate(part) for part in zip(*read, strict=True))
    return newton(x.astype(numpy.float64), y, numpy.ones(len(y)))


def with_reader(rows: Sequence[Row], weights: Floats, bias: float) -> list[Row]:
    """The rows with what this reader makes of their sentences."""
    return [
        row._replace(
            with_vectors=[
                one if one is None or read is None else one | read_sentences(read[0], weights, bias)
                for one, read in zip(row.with_vectors, row.read, strict=True)
            ]
        )
        for row in rows
    ]


def matrix(rows: Sequence[Features], names: Sequence[str]) -> Floats:
    return numpy.array([[row.get(name, 0.0) for name in names] for row in rows]).reshape(len(rows), len(names))


def part_of(rows: Sequence[Row], model: str, part: int) -> list[Features]:
    return [found for row in rows if (found := row.of(model)[part]) is not None]


def fit(
    squad_rows: Sequence[Row], clapnq_rows: Sequence[Row], small_rows: Sequence[Row], model: str
) -> tuple[Floats, float]:
    """Weights and bias. ClapNQ counts threefold, small indexes `SMALL_COUNTS`, covered questions twice."""
    names, count = MODELS[model], SMALL_COUNTS[model]
    small = [row for row in small_rows if row.answerable]
    parts = [
        (part_of(squad_rows, model, COVERED), 1.0, 2.0),
        (part_of(squad_rows, model, NO_DOCUMENT), 0.0, 1.0),
        (part_of(squad_rows, model, NO_PARAGRAPH), 0.0, 1.0),
        (part_of([row for row in clapnq_rows if row.answerable], model, COVERED), 1.0, 6.0),
        (part_of(clapnq_rows, model, NO_DOCUMENT), 0.0, 3.0),
        (part_of(small, model, COVERED), 1.0, 2 * count),
        (part_of(small, model, NO_DOCUMENT), 0.0, count),
        (part_of(small, model, NO_PARAGRAPH), 0.0, count),
        (part_of([row for row in small_rows if not row.answerable], model, COVERED), 0.0, count),
    ]
    x = numpy.concatenate([matrix(rows, names) for rows, _, _ in parts])
    y = numpy.concatenate([numpy.full(len(rows), label) for rows, label, _ in parts])
    return newton(x, y, numpy.concatenate([numpy.full(len(rows), weight) for rows, _, weight in parts]))


def newton(x: Floats, y: Floats, counts: Floats) -> tuple[Floats, float]:
    """Weights and bias of a logistic model by Newton's method, the weights held back by `RIDGE`."""
    ridge = numpy.diag([2 * RIDGE * len(y)] * x.shape[1] + [0.0])
    x = numpy.column_stack([x, numpy.ones(len(x))])
    beta = numpy.zeros(x.shape[1])
    for _ in range(30):
        chance = 1 / (1 + numpy.exp(-numpy.clip(x @ beta, -30, 30)))
        gradient = x.T @ (counts * (chance - y)) + ridge @ beta
        curvature = (x.T * (counts * chance * (1 - chance))) @ x + ridge + 1e-9 * numpy.eye(len(beta))
        beta -= numpy.linalg.solve(curvature, gradient)
    return beta[:-1], float(beta[-1])


class Scorer:
    """One fitted model; where it reads sentences, what is sure by vectors alone is told by those, as in use."""

    def __init__(self, squad: Sequence[Row], clapnq: Sequence[Row], small: Sequence[Row], model: str) -> None:
        self.model = model
        self.weights, self.bias = fit(squad, clapnq, small, model)
        self.before = fit(squad, clapnq, small, "vectors") if model == "sentences" else None

    def __call__(self, rows: Sequence[Row], part: int) -> Floats:
        found = part_of(rows, self.model, part)
        scores = matrix(found, MODELS[self.model]) @ self.weights + self.bias
        if self.before is None:
            return scores
        first = matrix(found, MODELS["vectors"]) @ self.before[0] + self.before[1]
        return numpy.where(first >= SURE, first, scores)

    def threshold(self, squad: Sequence[Row], users: Sequence[Row]) -> float:
        """The 5 % quantile of the covered, those of ClapNQ eightfold."""
        covered = [self(squad, COVERED), numpy.repeat(self(users, COVERED), 8)]
        return float(numpy.quantile(numpy.concatenate(covered), 0.05))


def auroc(higher: Floats, lower: Floats) -> float:
    ranks = numpy.concatenate([higher, lower]).argsort().argsort()[: len(higher)]
    return float((ranks.sum() - len(higher) * (len(higher) - 1) / 2) / (len(higher) * len(lower)))


def measured(covered: Floats, missing: Floats) -> tuple[float, float]:
    """(AUROC, share of the missing that is found at 5 % false alarms)."""
    return auroc(covered, missing), float((missing < numpy.quantile(covered, 0.05)).mean())


def apart(rows: Sequence[Row], held_back: set[str]) -> tuple[list[Row], list[Row]]:
    return [row for row in rows if row.group not in held_back], [row for row in rows if row.group in held_back]


def told(label: str, area: float, found: float, least: float | None = None) -> Figure:
    reach = "" if least is None else f"; to reach: {least}"
    return Figure(label, area, "AUROC", note=f"finds {100 * found:.0f} % at 5 % false alarms{reach}")


def measure(
    model: str, squad_rows: list[Row], half_rows: list[Row], small_rows: list[Row], clapnq_rows: list[Row]
) -> Iterator[Figure]:
    groups = sorted({row.group for row in squad_rows})
    random.Random(2).shuffle(groups)
    shares: list[list[tuple[float, float]]] = []
    halves: tuple[list[float], list[float]] = ([], [])
    alarms: list[bool] = []
    alarms_small: list[bool] = []
    for fold in range(FOLDS):
        held_back = set(groups[fold::FOLDS])
        train, rest = apart(squad_rows, held_back)
        small, small_rest = apart(small_rows, held_back)
        reader = fit_reader([*train, *small])
        train, rest, small, small_rest, half, users = (
            with_reader(rows, *reader)
            for rows in (train, rest, small, small_rest, apart(half_rows, held_back)[1], clapnq_rows)
        )
        scorer = Scorer(train, users, small, model)
        scores = [scorer(rest, part) for part in range(3)]
        for answerable in (False, True):
            halves[answerable].extend(scorer([row for row in half if row.answerable == answerable], COVERED))
        threshold = scorer.threshold(train, [row for row in users if row.answerable])
        alarms += (scores[COVERED] < threshold).tolist()
        alarms_small += (scorer([row for row in small_rest if row.answerable], COVERED) < threshold).tolist()
        shares.append([measured(scores[COVERED], scores[part]) for part in (NO_DOCUMENT, NO_PARAGRAPH)])
    for place, (what, least) in enumerate((("article", 0.975), ("paragraph", 0.92))):
        area, found = numpy.mean([share[place] for share in shares], axis=0)
        yield told(f"{model}: {what} missing, other articles", float(area), found, least)
    area, found = measured(numpy.array(halves[True]), numpy.array(halves[False]))
    yield told(f"{model}: every other paragraph missing, other articles", area, found, 0.92)
    for name, below in (("", alarms), (" in small indexes", alarms_small)):
        share = 100 * float(numpy.mean(below))
        yield Figure(f"{model}: false alarms{name}, other articles", share, "%", note="stated: 5 %")
    reader = fit_reader([*squad_rows, *small_rows])
    whole, small, users = (with_reader(rows, *reader) for rows in (squad_rows, small_rows, clapnq_rows))
    scorer = Scorer(whole, [], small, model)
    answered = [row for row in users if row.answerable]
    area, found = measured(scorer(answered, COVERED), scorer(users, NO_DOCUMENT))
    yield told(f"{model}: ClapNQ, fitted on SQuAD only", area, found)


def shipped(model: str, rows: Sequence[Row]) -> Figure:
    prior = PRIORS[model]
    found = part_of(rows, model, COVERED)
    chances = [general_probability({name: row[name] for name in MODELS[model]}) for row in found]
    share = 100 * float((numpy.array(chances) < prior.threshold).mean())
    return Figure(f"{model}: false alarms of the shipped threshold", share, "%", limit=8)


def print_weights(
    squad_rows: Sequence[Row], small_rows: Sequence[Row], clapnq_rows: Sequence[Row], users: Sequence[Row]
) -> int:
    weights, bias = fit_reader([*squad_rows, *small_rows])
    print("READER", {name: round(float(weight), 2) for name, weight in zip(OF_SENTENCE, weights, strict=True)})
    print(f"BIAS {bias:.2f}")
    rows = [with_reader(part, weights, bias) for part in (squad_rows, clapnq_rows, small_rows)]
    for model, names in MODELS.items():
        scorer = Scorer(*rows, model)
        threshold = scorer.threshold(rows[0], with_reader(users, weights, bias))
        print(model, {name: round(float(weight), 2) for name, weight in zip(names, scorer.weights, strict=True)})
        print(f"bias {scorer.bias:.2f}, threshold {1 / (1 + numpy.exp(-threshold)):.2f}")
    return 0


def main() -> int:
    """Measure by cross-validation over articles; with `--weights` fit on everything and print that."""
    embedder = Remembering()
    squad_rows, half_rows, small_rows = squad(embedder)
    clapnq_rows = clapnq(embedder)
    users = [row for row in clapnq_rows if row.answerable]
    if "--weights" in sys.argv:
        return print_weights(squad_rows, small_rows, clapnq_rows, users)
    figures = []
    for model in MODELS:
        figures += list(measure(model, squad_rows, half_rows, small_rows, clapnq_rows))
        figures.append(shipped(model, [*squad_rows, *users]))
    return print_table("Whether the documents cover a question", figures)


if __name__ == "__main__":
    sys.exit(main())
