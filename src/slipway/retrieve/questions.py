"""Makes questions from documents, by rules over headings and sentences; every one is marked as made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path
from random import Random

from slipway.domain.dataset import Case
from slipway.domain.document import Document
from slipway.domain.errors import FileBroken, FileMissing
from slipway.domain.ids import hash_text
from slipway.text.markdown import Block, find_blocks, plain_text, split_units
from slipway.text.overlap import content_words
from slipway.text.sentences import Span

MADE = "made"
DEFINITION = re.compile(
    r"^(?:(?P<article>The|A|An|Every|Each) )?(?P<what>[\w`*-]+(?: (?!is\b|are\b|was\b|were\b)[\w`*-]+){0,4}) "
    r"(?P<verb>is|are|was|were) (?P<rest>.{20,})$",
    re.S,
)
VAGUE = re.compile(
    r"\b(it|this|that|these|those|there|they|he|she|we|you|here|what|which|who|one|both|some|most)\b", re.I
)
ASKS = re.compile(r"^(how|what|why|when|where|who|which|can|does|do|is|are|should|will)\b", re.I)
GERUND = re.compile(r"^[A-Z]?[a-z]+ing\b")
VERB_WORDS = (
    "add choose configure connect create delete deploy disable download edit enable erase find fix get install make "
    "migrate move open pay read remove rename replace restart restore roll rotate run save see send stop try tune "
    "update upgrade upload verify write"
)
VERBS = frozenset(VERB_WORDS.split())
# These are nouns as well: only with an article behind them do they tell what to do.
BOTH_WORDS = (
    "build call change check clone copy export import list load log report request reset return search set sign "
)
NOUNS_TOO = frozenset(f"{BOTH_WORDS} start test train use".split())
ARTICLES = frozenset(["a", "an", "the", "your", "one", "all", "each"])
# Few collections of documents answer these. Those whose words the documents hold are left out.
OFF_TOPIC = (
    "What is the capital of Mongolia?",
    "Who painted the ceiling of the Sistine Chapel?",
    "How long should sourdough bread rise before baking?",
    "Which planet has the most moons?",
    "When was the first trans-Atlantic telegraph cable laid?",
    "What is the boiling point of ethanol?",
    "Who won the football world cup in 1998?",
    "How do penguins keep their eggs warm?",
    "What vaccinations do travellers to Borneo need?",
    "How many strings does a sitar have?",
    "Which composer wrote the opera Rusalka?",
    "What does a sommelier do at a restaurant?",
)


def make_questions(documents: Sequence[Document], *, limit: int = 40, seed: int = 0) -> list[Case]:
    """At most `limit` cases from headings and defining sentences, spread over the documents; about one in five is one
    that the documents do not answer. Each carries the tag `made`, and the place of its answer where it has one.
    """
    random = Random(seed)
    by_document = [_made_from(document) for document in sorted(documents, key=lambda document: document.id)]
    for cases in by_document:
        random.shuffle(cases)
    seen: set[str] = set()
    spread: list[Case] = []
    for turn in zip_longest(*by_document):
        for case in turn:
            if case is not None and case.question.lower() not in seen:
                seen.add(case.question.lower())
                spread.append(case)
    answerable = spread[: limit - limit // 5]
    unanswerable = list(_off_topic(documents))[: min(limit // 5, max(len(answerable) // 4, 1))]
    return answerable + unanswerable


def _made_from(document: Document) -> list[Case]:
    return [*_from_headings(document), *_from_definitions(document)]


def _from_headings(document: Document) -> Iterator[Case]:
    if document.metadata.get("format") not in {"markdown", "html", "docx"}:
        return
    blocks = find_blocks(document.text)
    for heading, following in pairwise(blocks):
        if heading.kind != "heading" or following.kind not in {"paragraph", "item"}:
            continue
        question = ask_about(plain_text(document.text[heading.start : heading.end]).strip(), document.title)
        answer = _first_sentence(document.text, following)
        if question and answer is not None:
            yield _case(document, question, answer)


def _from_definitions(document: Document) -> Iterator[Case]:
    for span, kind in split_units(document.text):
        sentence = document.text[span.start : span.end]
        found = DEFINITION.match(sentence) if kind in {"paragraph", "item"} and len(sentence) < 300 else None
        if found and not VAGUE.search(found["what"]) and content_words(found["what"]):
            what = plain_text(found["what"])
            article = (found["article"] or "").lower()
            if not article and (what.split()[0].lower() in VERBS | NOUNS_TOO or GERUND.match(what)):
                continue
            named = (
                what if article or not what[:1].isupper() or not what[1:2].islower() else _lower_first(what, document)
            )
            yield _case(document, f"What {found['verb']} {f'{article} {named}'.strip()}?", span)


def ask_about(heading: str, title: str) -> str:
    """A question that a heading answers; empty where it says too little.

    >>> ask_about("Rotate the master key", "Privacy")
    'How do I rotate the master key?'
    """
    heading = re.sub(r"^[\d.]+\s+|[:.]$", "", heading).strip()
    if not heading or not content_words(heading):
        return ""
    if heading.endswith("?"):
        return heading
    first = heading.split()[0]
    rest = heading[len(first) :]
    if ASKS.match(heading):
        to = re.match(r"^how to (?P<do>.+)", heading, re.I)
        return f"How do I {to['do']}?" if to else f"What do the documents say about {heading[:1].lower()}{heading[1:]}?"
    if _tells_what_to_do(heading):
        return f"How do I {first.lower()}{rest}?"
    if len(heading.split()) == 1 and len(title) > 40:
        return ""
    if len(heading.split()) == 1 and title and title.lower() != heading.lower():
        return f"What should I know about {heading.lower() if heading[1:].islower() else heading} of {title}?"
    named = f"{heading[:1].lower()}{heading[1:]}" if heading[1:2].islower() else heading
    return f"What should I know about {named}?"


def _tells_what_to_do(heading: str) -> bool:
    first, *rest = heading.lower().split()
    return bool(rest) and (first in VERBS or (first in NOUNS_TOO and rest[0] in ARTICLES))


def _lower_first(what: str, document: Document) -> str:
    """A first word that stands in lower case elsewhere is no name."""
    first = what.split()[0]
    return what[:1].lower() + what[1:] if re.search(rf"\b{re.escape(first.lower())}\b", document.text) else what


def _first_sentence(text: str, block: Block) -> Span | None:
    for span, _ in split_units(text[block.start : block.end]):
        if len(content_words(text[block.start + span.start : block.start + span.end])) >= 3:
            return Span(block.start + span.start, block.start + span.end)
    return None


def _case(document: Document, question: str, answer: Span) -> Case:
    return Case(
        id=f"made-{hash_text(document.id + question)[:12]}",
        question=question,
        expected=document.text[answer.start : answer.end],
        answerable=True,
        documents=(document.id,),
        spans=((document.id, answer.start, answer.end),),
        tags=(MADE,),
        group=document.id,
    )


def _off_topic(documents: Sequence[Document]) -> Iterator[Case]:
    there = {word for document in documents for word in content_words(document.text)}
    for question in OFF_TOPIC:
        asked = set(content_words(question))
        if len(asked & there) <= len(asked) / 2:
            yield Case(id=f"made-{hash_text(question)[:12]}", question=question, answerable=False, tags=(MADE,))


def read_questions(path: Path) -> list[tuple[str, str]]:
    """(id, question) of each line: JSON objects with `question` or `query` (and `id`), or the questions themselves.

    Raises `FileMissing`, `FileBroken` with the line.
    """
    if not path.is_file():
        raise FileMissing(path, next_step="Name a file with one question a line, as text or JSON.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as wrong:
        raise FileBroken(path, "it is not UTF-8 text") from wrong
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            found.append(_read_question(path, number, line.strip()))
    if not found:
        raise FileBroken(path, "it holds no question", next_step="Write one question a line.")
    return found


def _read_question(path: Path, number: int, line: str) -> tuple[str, str]:
    if not line.startswith("{"):
        return str(number), line
    try:
        row = json.loads(line)
    except json.JSONDecodeError as wrong:
        raise FileBroken(path, f"line {number} is not JSON ({wrong.msg})") from wrong
    question = row.get("question") or row.get("query")
    if not isinstance(question, str) or not question.strip():
        raise FileBroken(path, f"line {number} has no `question`")
    return str(row.get("id", number)), question.strip()
