"""Pairs as token ids: what the model reads, and which of it counts for the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from slipway.domain.training import Pair

IGNORED = -100
"""Label of a token that does not count, as torch's cross entropy expects it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Token ids of one pair; only those from `answer_start` on count for the loss."""

    ids: tuple[int, ...]
    answer_start: int


def make_examples(pairs: Sequence[Pair], tokenizer: Any, *, length: int) -> list[Example]:
    """Pairs in the tokenizer's own chat form where it has one, else prompt, line break, completion.

    Prompts that are too long lose their beginning, answers their end; at least one token of the answer remains.
    """
    return [_example(pair, tokenizer, length) for pair in pairs]


def _example(pair: Pair, tokenizer: Any, length: int) -> Example:
    if getattr(tokenizer, "chat_template", None):
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": pair.prompt}], tokenize=False, add_generation_prompt=True
        )
        prompt = tokenizer(asked, add_special_tokens=False)["input_ids"]
    else:
        prompt = tokenizer(pair.prompt + "\n")["input_ids"]
    answer = tokenizer(pair.completion, add_special_tokens=False)["input_ids"]
    if tokenizer.eos_token_id is not None:
        answer = [*answer, tokenizer.eos_token_id]
    answer = answer[: max(1, length - 1)]
    prompt = prompt[-(length - len(answer)) :] if length > len(answer) else []
    return Example(ids=(*prompt, *answer), answer_start=len(prompt))


def batch_places(count: int, batch: int, step: int, *, seed: int) -> list[int]:
    """Which examples the batch of this step holds; each epoch has its own order, and nothing else decides."""
    each = -(-count // batch)
    epoch, place = divmod(step, each)
    order = list(range(count))
    Random(f"{seed}:{epoch}").shuffle(order)
    return order[place * batch : (place + 1) * batch]


def steps_of(count: int, batch: int, epochs: float) -> int:
    """Steps that read every example `epochs` times; at least one."""
    return max(1, round(-(-count // batch) * epochs))
