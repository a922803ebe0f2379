"""What the benchmarks store: spans as a gateway journals them, in words that occur as often as they do in prose."""

import random
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
MODELS = ("gpt-4o-mini", "claude-haiku", "small")
START_NS = 1_780_000_000_000_000_000


@lru_cache(maxsize=1)
def prose() -> list[str]:
    """The words of this project's documentation, in their order."""
    return re.findall(r"[A-Za-z0-9'.,-]+", " ".join(path.read_text() for path in sorted(DOCS.rglob("*.md"))))


@lru_cache(maxsize=1)
def pieces() -> list[str]:
    """Runs of a dozen words from everywhere in the documentation."""
    words = prose()
    return [" ".join(words[at : at + 12]) for at in range(len(words) - 12)]


def text(chance: random.Random, characters: int) -> str:
    """Pieces of a dozen words from anywhere: as frequent and as rare as words are, but no text repeats another."""
    return " ".join(chance.choices(pieces(), k=characters // 60 + 2))[:characters]


def gateway_span(
    chance: random.Random,
    number: int,
    *,
    prompt: int = 600,
    answer: int = 750,
    people: int = 0,
    apart_ns: int = 86_400_000,
    project: str = "bench",
) -> dict[str, Any]:
    """One request as the gateway writes it. `people`: how many persons there are; 0 for a gateway that knows none."""
    begin = START_NS + number * apart_ns
    span: dict[str, Any] = {
        "trace": chance.randbytes(16).hex(),
        "span": chance.randbytes(8).hex(),
        "name": "chat",
        "kind": "chat",
        "start_ns": begin,
        "end_ns": begin + int(chance.lognormvariate(20.5, 0.6)),
        "status": "ok" if chance.random() < 0.98 else "error",
        "project": project,
        "channel": "support",
        "release": f"{number % 3:064x}",
        "model": MODELS[number % 3],
        "provider": "mock",
        "input_tokens": prompt // 4,
        "output_tokens": answer // 4,
        "cost_micros": 120,
        "first_token_ns": int(chance.lognormvariate(19.5, 0.5)),
        "finish": "stop",
        "content": {
            "messages": [{"role": "user", "content": text(chance, prompt)}],
            "reply": text(chance, answer),
        },
    }
    if people:
        span["subject"] = f"user-{chance.randrange(people):06d}"
        span["session"] = f"session-{chance.randrange(people * 4):07d}"
    return span


def gateway_spans(count: int, *, seed: int = 1, first: int = 0, **options: Any) -> Iterator[dict[str, Any]]:
    chance = random.Random(seed)
    for number in range(first, first + count):
        yield gateway_span(chance, number, **options)
