"""Texts in JSON of any shape: each is handed to a function, which may give back another one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

NOT_TEXT = frozenset({"audio", "image", "image_url", "input_audio", "type", "video_url"})
"""Keys of a part that says its type: there stand the type itself, addresses, and what is packed in base64."""

Rewrite = Callable[[str], str]


class NumbersForText(ValueError):
    """There are numbers of tokens where texts could stand."""


def rewrite_texts(value: Any, rewrite: Rewrite) -> Any:
    """The value with every text in it rewritten: one text, a list of them, parts that hold some. Raises
    `NumbersForText`."""
    if isinstance(value, str):
        return rewrite(value)
    if isinstance(value, list):
        if any(isinstance(one, int | float) for one in value):
            raise NumbersForText
        return [rewrite_texts(one, rewrite) for one in value]
    if isinstance(value, dict):
        part = isinstance(value.get("type"), str)
        return {
            key: one if part and key in NOT_TEXT and not _has_words(one) else rewrite_texts(one, rewrite)
            for key, one in value.items()
        }
    return value


def _has_words(value: Any) -> bool:
    """Whether there is a text that is more than one word: no address is, and nothing packed."""
    if isinstance(value, str):
        return len(value.split(maxsplit=1)) > 1
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and any(map(_has_words, value))


def rewrite_named(value: Any, names: Collection[str], rewrite: Rewrite) -> Any:
    """The same for the texts under keys of these names only, wherever they stand."""
    if isinstance(value, list):
        return [rewrite_named(one, names, rewrite) for one in value]
    if isinstance(value, dict):
        return {
            key: rewrite_texts(one, rewrite) if key in names else rewrite_named(one, names, rewrite)
            for key, one in value.items()
        }
    return value


def texts_in(value: Any) -> list[str]:
    """Every text of a value; numbers of tokens are told as how many they are."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    try:
        rewrite_texts(value, note)
    except NumbersForText:
        count = sum(len(one) if isinstance(one, list) else 1 for one in value) if isinstance(value, list) else 0
        return [f"[{count} tokens]"]
    return found


def texts_of_chat(chat: Mapping[str, Any]) -> list[str]:
    """All that a chat completion request says to a model, its tools as JSON."""
    said = [{name: value for name, value in message.items() if name != "role"} for message in chat["messages"]]
    return texts_in(said) + [msgspec.json.encode(tool).decode() for tool in chat.get("tools", ())]


def named_texts(value: Any, names: Collection[str]) -> list[str]:
    """Every text under keys of these names."""
    found: list[str] = []
    rewrite_named(value, names, lambda text: found.append(text) or text)  # type: ignore[func-returns-value]
    return found
