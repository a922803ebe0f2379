"""What only Anthropic's API knows, as fields of a chat completion: signed thoughts, and marks of what to cache.

A message carries `thinking_blocks` beside its `reasoning_content`, as LiteLLM writes them: thoughts come back with
their signature, and must be sent again as they were where the model called a tool. A part, a tool or a message carries
`cache_control`. Other APIs refuse or bill what they do not know, so they get neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BLOCKS = "thinking_blocks"
MARK = "cache_control"
BETA = b"anthropic-beta"
"""The header that asks for features of the API that not everybody has."""
KINDS = ("thinking", "redacted_thinking")
CREATED = "cache_creation_input_tokens"
"""In the usage of a chat completion: tokens that were written into Anthropic's cache."""
ONLY_ANTHROPIC = frozenset(
    {
        MARK,
        "container",
        "context_management",
        "inference_geo",
        "mcp_servers",
        "output_config",
        "service_tier",
        "thinking",
        "top_k",
    }
)
"""Fields of a request that no other API knows. They change how a model thinks or what it costs, not what was asked."""


def thoughts_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The thoughts of a message as Anthropic's blocks."""
    blocks = message.get(BLOCKS)
    if not isinstance(blocks, list):
        return []
    return [block for block in blocks if isinstance(block, dict) and block.get("type") in KINDS]


def marked(shape: dict[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """A shape with the mark that its source has."""
    return shape | {MARK: source[MARK]} if isinstance(source.get(MARK), dict) else shape


def any_marked(parts: Sequence[Mapping[str, Any]]) -> bool:
    return any(MARK in part for part in parts)


def created_in(usage: Any) -> int:
    """Tokens that were written into the cache, by a usage of either API."""
    found = usage.get(CREATED) if isinstance(usage, dict) else None
    return found if isinstance(found, int) and found > 0 else 0


def without(chat: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion request without any of this, for everybody else."""
    plain = {name: value for name, value in chat.items() if name not in ONLY_ANTHROPIC}
    if isinstance(chat.get("messages"), list):
        messages = [_plain_message(one) if isinstance(one, dict) else one for one in chat["messages"]]
        plain["messages"] = [one for one in messages if one is not None]
    if isinstance(chat.get("tools"), list):
        plain["tools"] = [_unmarked(tool) for tool in chat["tools"]]
    return plain


def _plain_message(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """None where nothing is left of it."""
    plain: dict[str, Any] = _unmarked(message)
    if plain.pop(BLOCKS, None) and not plain.get("content") and not plain.get("tool_calls"):
        return None
    parts = plain.get("content")
    if isinstance(parts, list) and all(isinstance(part, dict) for part in parts):
        plain["content"] = [_unmarked(part) for part in parts]
        if any_marked(parts) and all(part.get("type") == "text" for part in parts):
            between = "\n\n" if message.get("role") == "system" else ""
            plain["content"] = between.join(str(part.get("text") or "") for part in parts)
    if isinstance(plain.get("tool_calls"), list):
        plain["tool_calls"] = [_unmarked(call) for call in plain["tool_calls"]]
    return plain


def _unmarked(value: Any) -> Any:
    return {name: one for name, one in value.items() if name != MARK} if isinstance(value, Mapping) else value
