"""JSON Schema of slipway.toml, for editors and for docs/settings.md."""

from typing import Any

import msgspec

from slipway.config.settings import Settings


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the whole file."""
    schema: dict[str, Any] = msgspec.json.schema(Settings)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "slipway.toml", **schema}
