"""GET /v1/models: what clients may name as `model`."""

from __future__ import annotations

from typing import Any

import msgspec

from slipway.domain.errors import ModelNotFound
from slipway.gateway.call import Call
from slipway.gateway.services import Services
from slipway.wire.openai import model_shape

OWNER = "slipway"


async def list_models(call: Call, services: Services) -> None:
    await call.reply(200, msgspec.json.encode({"object": "list", "data": list(known_models(call).values())}))


async def show_model(call: Call, services: Services) -> None:
    name = call.path.removeprefix("/v1/models/")
    models = known_models(call)
    if name not in models:
        raise ModelNotFound(name, known=list(models), next_step="")
    await call.reply(200, msgspec.json.encode(models[name]))


def known_models(call: Call) -> dict[str, dict[str, Any]]:
    """Channels with the releases behind them, every release, and the embedder of the documents; what the key may call
    of them."""
    snapshot = call.snapshot
    models: dict[str, dict[str, Any]] = {}
    for name, channel in sorted(snapshot.channels.items()):
        shares = [
            {"release": snapshot.targets[share.release].label, "weight": share.weight}
            for share in channel.shares
            if share.release in snapshot.targets
        ]
        created = int(channel.changed_at.timestamp())
        models[name] = model_shape(name, created=created, owner=OWNER) | {"slipway": {"releases": shares}}
    for label, id in snapshot.by_label.items():
        release = snapshot.targets[id].release
        assert release is not None
        created = int(release.created_at.timestamp())
        models[label] = model_shape(label, created=created, owner=OWNER) | {"slipway": {"release": id}}
    embedder = snapshot.workspace.embedder
    if embedder is not None:
        models[embedder.id] = model_shape(embedder.id, created=0, owner=OWNER)
    key = call.key
    return models if key is None else {name: model for name, model in models.items() if key.may_call(name)}
