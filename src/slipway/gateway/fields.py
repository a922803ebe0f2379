"""The few fields that the gateway reads of a request that it otherwise passes on unread."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from slipway.domain.errors import RequestInvalid

Fields = dict[str, msgspec.Raw]

_text: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)
_flag: msgspec.json.Decoder[bool | None] = msgspec.json.Decoder(bool | None)


def read_model(fields: Mapping[str, msgspec.Raw]) -> str:
    """Raises `RequestInvalid` where there is none."""
    model = read_text(fields, "model")
    if not model:
        raise RequestInvalid("The field 'model' is missing: name a channel or a release.", param="model")
    return model


def read_user(fields: Mapping[str, msgspec.Raw]) -> str | None:
    """Whom the request is about: `user`, or what replaces it in newer clients."""
    if "user" in fields or "safety_identifier" in fields:
        return read_text(fields, "user") or read_text(fields, "safety_identifier")
    return None


def wants_stream(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Raises `RequestInvalid` when `stream` is neither true nor false."""
    given = fields.get("stream")
    if given is None:
        return False
    try:
        return bool(_flag.decode(given))
    except ValueError:
        raise RequestInvalid("'stream' is wrong: expected true or false.", param="stream") from None


def read_text(fields: Mapping[str, msgspec.Raw], name: str) -> str | None:
    """Raises `RequestInvalid` where it is no text."""
    given = fields.get(name)
    if given is None:
        return None
    try:
        return _text.decode(given)
    except ValueError:
        raise RequestInvalid(f"'{name}' is wrong: expected a text.", param=name) from None
