"""Scores how well each sentence of some passages answers a question, from words alone or with embeddings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from slipway.text.markdown import BlockKind, split_units
from slipway.text.overlap import WORD, asked_stems, ngrams, rarity
from slipway.text.rarity import RAREST, general_rarity
from slipway.text.sentences import Span
from slipway.text.stems import stem
from slipway.text.stop_words import STOP_WORDS

QuestionKind = Literal["number", "date", "person", "place", "reason", "procedure", "definition", "other"]

NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand million "
    "billion half third quarter dozen once twice first second none no"
)
MONTHS = "january february march april may june july august september october november december"
PATTERNS: dict[QuestionKind, re.Pattern[str]] = {
    "date": re.compile(r"\b(when|(what|which) (year|date|day|month|time|century|decade)|since when|until when)\b"),
    "number": re.compile(
        r"\b(how (many|much|long|far|old|often|big|large|high|tall|fast|deep|wide|soon|heavy|late)|"
        r"what (\w+ )?(percentage|percent|number|amount|size|price|cost|population|area|length|limit|port|version|rate|"
        r"age|share|temperature|distance|weight|height)|(cost|costs)\b)"
    ),
    "person": re.compile(r"\b(who|whom|whose)\b"),
    "place": re.compile(r"\b(where|(what|which) (country|city|state|place|continent|region|location|town|county))\b"),
    "reason": re.compile(r"\b(why|what (is the )?(reason|cause|causes|caused|purpose))\b"),
    "procedure": re.compile(r"\bhow (do|does|can|could|should|to|must|would)\b|\bwhat command\b|\bwhich command\b"),
    "definition": re.compile(r"^\W*(what (is|are|was|were)|define|what does .* (mean|stand for))\b"),
}
HINTS: dict[QuestionKind, re.Pattern[str]] = {
    "number": re.compile(rf"\d|\b({NUMBER_WORDS.replace(' ', '|')})\b"),
    "date": re.compile(
        rf"\b(1\d|20)\d\d\b|\b({MONTHS.replace(' ', '|')})\b|\b\d{{1,2}}(st|nd|rd|th)\b|\d{{4}}s|century|day"
    ),
    "reason": re.compile(
        r"\b(because|since|so that|due to|in order|reason|therefore|caused?|causing|result|led to|thus|hence|as a|"
        r"to avoid|otherwise|for fear|allow|enable|prevent|ensure)"
    ),
    "procedure": re.compile(
        r"`|^\W*(run|use|set|add|call|write|open|create|install|choose|click|start|put|name|pass|copy|give|edit|remove|"
        r"delete|change|type|enter|select|go|send|make)\b|\bby \w+ing\b|\bmust\b|\bcan\b|\bshould\b"
    ),
    "definition": re.compile(r"\b(is|are|was|were|means|refers to|called|known as|stands for|defined)\b"),
}
ENDS_WITH_COLON = re.compile(r":[*_`]*$")


class Source(NamedTuple):
    """A passage to look for an answer in: its text, what stands above it, and its score in the search (0 to 1)."""

    text: str
    title: str = ""
    heading: str = ""
    score: float = 1.0


class Unit(NamedTuple):
    """A sentence, list item, table row or line of code: [start, end) of the text of passage number `source`."""

    source: int
    start: int
    end: int
    kind: BlockKind
    above: str
    """Headings that stand over it in the passage."""


FEATURES = (
    "coverage", "coverage_with_headings", "coverage_with_neighbours", "coverage_by_passage", "headings", "bigrams",
    "rarest_missing", "names", "names_in_passage", "matched", "new_words", "length", "short", "first",
    "passage_score", "telling", "telling_with_neighbours", "telling_by_passage", "telling_missing", "under_heading",
    "best_of_passage", "question_length", "repeats_question", "asks", "item", "row", "code", "number_found",
    "number_missing", "date_found", "date_missing", "person_found", "person_missing", "place_found",
    "place_missing", "reason_found", "reason_missing", "procedure_found", "procedure_missing", "definition_found",
    "definition_missing",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, taken apart once."""

    text: str
    stems: frozenset[str]
    pairs: frozenset[tuple[str, ...]]
    names: frozenset[str]
    kind: QuestionKind


def take_apart(question: str) -> Asked:
    """Stems, neighbouring pairs, names and numbers, and what kind of answer the question asks for."""
    lowered = question.lower()
    stems = asked_stems(question)
    tokens = WORD.findall(question)
    names = {
        stem(token.lower())
        for place, token in enumerate(tokens)
        if ((token[0].isupper() and place > 0) or token[0].isdigit()) and token.lower() not in STOP_WORDS
    }
    kind: QuestionKind = next((kind for kind, pattern in PATTERNS.items() if pattern.search(lowered)), "other")
    return Asked(
        text=question,
        stems=frozenset(stems),
        pairs=frozenset(ngrams(stems, 2)),
        names=frozenset(names),
        kind=kind,
    )


def find_units(sources: Sequence[Source]) -> list[Unit]:
    """Every unit of the passages in reading order; headings are context, not answers."""
    units: list[Unit] = []
    for number, source in enumerate(sources):
        above = ""
        for span, kind in split_units(source.text):
            if kind == "heading":
                above = f"{above} {source.text[span.start : span.end]}".strip()[-300:]
            elif any(sign.isalnum() for sign in source.text[span.start : span.end]):
                units.append(Unit(number, span.start, span.end, kind, above))
    return units


def describe_units(question: Asked, sources: Sequence[Source], units: Sequence[Unit]) -> list[tuple[float, ...]]:
    """One row of `FEATURES` for each unit; all between 0 and 1."""
    texts = [sources[unit.source].text[unit.start : unit.end] for unit in units]
    stems = [_stems(text) for text in texts]
    sets = [frozenset(found) for found in stems]
    above = [
        frozenset(_stems(f"{sources[unit.source].title} {sources[unit.source].heading} {unit.above}")) for unit in units
    ]
    by_source: dict[int, set[str]] = {}
    for unit, found, over in zip(units, sets, above, strict=True):
        by_source.setdefault(unit.source, set()).update(found, over)
    weights = rarity(sets)
    # A word that stands nowhere is rarer than any that does.
    absent = math.log(1 + 2 * (len(units) + 1))
    asked = {word: weights.get(word, absent) for word in question.stems}
    total = sum(asked.values()) or 1.0
    rarest = max(asked.values(), default=1.0)

    telling = {word: general_rarity(word) for word in question.stems}
    all_telling = sum(telling.values()) or 1.0

    def covered(found: Iterable[str]) -> float:
        return sum(asked[word] for word in question.stems.intersection(found)) / total

    def told(found: Iterable[str]) -> float:
        return sum(telling[word] for word in question.stems.intersection(found)) / all_telling

    plain = [covered(found) for found in sets]
    best: dict[int, float] = {}
    for unit, share in zip(units, plain, strict=True):
        best[unit.source] = max(best.get(unit.source, 0.0), share)
    rows = []
    for place, (unit, text, found, over) in enumerate(zip(units, texts, sets, above, strict=True)):
        near = found | over
        if place > 0 and units[place - 1].source == unit.source:
            near |= sets[place - 1]
        if place + 1 < len(units) and units[place + 1].source == unit.source:
            near |= sets[place + 1]
        whole = by_source[unit.source]
        missing = [weight for word, weight in asked.items() if word not in whole]
        new = found - question.stems
        before = units[place - 1] if place else None
        starts_section = float(before is None or before.source != unit.source or before.above != unit.above)
        rows.append(
            (
                plain[place],
                covered(found | over),
                covered(near),
                covered(whole),
                covered(over),
                sum(pair in question.pairs for pair in set(ngrams(stems[place], 2))) / max(len(question.pairs), 1),
                max(missing, default=0.0) / rarest,
                len(question.names & found) / len(question.names) if question.names else 0.5,
                len(question.names & whole) / len(question.names) if question.names else 0.5,
                min(len(question.stems & found) / 5, 1.0),
                min(len(new) / 10, 1.0),
                min(len(stems[place]) / 40, 1.0),
                float(len(new) < 2),
                starts_section,
                sources[unit.source].score,
                told(found),
                told(near),
                told(whole),
                max((telling[word] for word in question.stems - whole), default=0.0) / RAREST,
                covered(over) * starts_section,
                float(plain[place] > 0 and plain[place] == best[unit.source]),
                min(len(question.stems) / 10, 1.0),
                float(found <= question.stems),
                float(text.rstrip("*_` ").endswith("?")),
                float(unit.kind == "item"),
                float(unit.kind == "row"),
                # A line of code answers what to do or how much; elsewhere it only repeats a word.
                float(unit.kind == "code" and question.kind not in {"procedure", "number"}),
                *_hints(question, text),
            )
        )
    return rows


def weigh_rows(rows: Sequence[Sequence[float]], weights: Mapping[str, float], bias: float) -> list[float]:
    """Log-odds of each row under a logistic model."""
    vector = [weights.get(name, 0.0) for name in FEATURES]
    return [bias + sum(value * weight for value, weight in zip(row, vector, strict=True)) for row in rows]


def whole_answer(text: str, span: Span, *, most: int = 700) -> Span:
    """The unit, and where it announces a list, a table or code by a colon, that as well."""
    if not announces(text[span.start : span.end]):
        return span
    end = span.end
    for following, kind in split_units(text):
        if following.start < span.end:
            continue
        if kind not in {"item", "row", "code"} or following.end - span.start > most:
            break
        end = following.end
    # A block of code is quoted with its fences, so that it shows as code.
    opened = text.count("```", span.start, end)
    if opened % 2 and (close := text.find("```", end)) >= 0:
        end = close + 3
    return Span(span.start, end)


def announces(text: str) -> bool:
    """Whether a text ends with a colon."""
    return ENDS_WITH_COLON.search(text) is not None


def _hints(question: Asked, text: str) -> list[float]:
    """For each kind of question: 1 where its sign is there, then 1 where it is asked for and missing."""
    found: list[float] = []
    for kind in ("number", "date", "person", "place", "reason", "procedure", "definition"):
        if question.kind != kind:
            found += [0.0, 0.0]
        else:
            there = (
                _has_new_name(question, text) if kind in {"person", "place"} else bool(HINTS[kind].search(text.lower()))
            )
            found += [float(there), float(not there)]
    return found


def _has_new_name(question: Asked, text: str) -> bool:
    """A capitalised word, not at the start, that the question does not hold."""
    return any(
        token[0].isupper() and place > 0 and stem(token.lower()) not in question.stems
        for place, token in enumerate(WORD.findall(text))
    )


def _stems(text: str) -> list[str]:
    return [stem(word) for word in WORD.findall(text.lower()) if word not in STOP_WORDS]
