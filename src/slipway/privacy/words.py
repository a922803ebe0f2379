"""Texts to look for, and values without them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from slipway.domain.trace import Trace

SHORTEST = 12
"""Shorter texts ("yes", "30 days") say nothing about who said them: they count only as a whole value."""
ERASED = "[erased]"


class Cleaned(NamedTuple):
    """A value without the texts, and how many were taken out."""

    value: Any
    taken: int


class Texts:
    """Texts that are looked for. Long ones are found inside others, short ones only as a whole."""

    def __init__(self, texts: Iterable[str]) -> None:
        stripped = {text.strip() for text in texts}
        self.whole = frozenset(text for text in stripped if text)
        self._by_start: dict[str, list[str]] = defaultdict(list)
        for text in self.long():
            self._by_start[text[:SHORTEST]].append(text)

    def long(self) -> list[str]:
        """Texts that are looked for inside others, longest first."""
        return sorted((text for text in self.whole if len(text) >= SHORTEST), key=lambda text: (-len(text), text))

    def __bool__(self) -> bool:
        return bool(self.whole)

    def __or__(self, other: "Texts") -> "Texts":
        return Texts(self.whole | other.whole)

    def cut(self, text: str) -> str:
        """The text with every occurrence replaced by a mark."""
        if text.strip() in self.whole:
            return ERASED
        if len(text) < SHORTEST or not self._by_start:
            return text
        pieces: list[str] = []
        kept_from = at = 0
        while at <= len(text) - SHORTEST:
            found = self._at(text, at)
            if found:
                pieces += [text[kept_from:at], ERASED]
                at += found
                kept_from = at
            else:
                at += 1
        return "".join([*pieces, text[kept_from:]]) if pieces else text

    def _at(self, text: str, at: int) -> int:
        """Length of the longest text that begins here; 0 when none does."""
        starts = self._by_start.get(text[at : at + SHORTEST], ())
        return max((len(one) for one in starts if text.startswith(one, at)), default=0)


def without(value: Any, texts: Texts) -> Cleaned:
    """A plain value without the texts: strings lose them, and members of lists that held one are dropped."""
    match value:
        case str():
            cut = texts.cut(value)
            return Cleaned(cut, int(cut != value))
        case Mapping():
            cleaned = {key: without(inner, texts) for key, inner in value.items()}
            return Cleaned({key: one.value for key, one in cleaned.items()}, sum(one.taken for one in cleaned.values()))
        case list() | tuple():
            members = [without(inner, texts) for inner in value]
            return Cleaned([one.value for one in members if not one.taken], sum(one.taken for one in members))
        case _:
            return Cleaned(value, 0)


def said_in(trace: Trace) -> set[str]:
    """What the person wrote in a trace: questions and the messages of the user."""
    found: set[str] = set()
    for span in trace.spans:
        for key in ("question", "query", "input", "prompt"):
            if isinstance(text := span.content.get(key), str):
                found.add(text)
        messages = span.content.get("messages")
        if span is trace.root or span.parent is None:
            found.update(_messages(messages, role="user"))
    return found


def told_in(trace: Trace) -> set[str]:
    """What the person was answered."""
    found: set[str] = set()
    for span in trace.spans:
        for key in ("answer", "reply"):
            if isinstance(text := span.content.get(key), str):
                found.add(text)
        output = span.content.get("output")
        found.update(_messages(output, role="assistant"))
        if isinstance(output, str):
            found.add(output)
    return found


def strings(value: Any) -> Iterator[str]:
    """Every string in a plain value, but not the keys."""
    match value:
        case str():
            yield value
        case Mapping():
            for inner in value.values():
                yield from strings(inner)
        case list() | tuple():
            for inner in value:
                yield from strings(inner)
        case _:
            return


def _messages(messages: Any, *, role: str) -> Iterator[str]:
    for message in messages if isinstance(messages, list | tuple) else ():
        if isinstance(message, Mapping) and message.get("role") == role:
            yield from strings([message.get("text"), message.get("content")])
