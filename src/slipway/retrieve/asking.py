"""Asks a named engine something short on behalf of a search, and tells what that cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from slipway.domain.decoding import Decoding
from slipway.domain.errors import ConfigError
from slipway.domain.message import Message, Request, Usage
from slipway.domain.money import Money
from slipway.engines.base import Tools
from slipway.models.choice import choose_engine
from slipway.models.patience import IMPATIENT, complete
from slipway.models.prices import price_in
from slipway.tracing.cost import cost_of
from slipway.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Who was asked, and what it used."""

    engine: str = ""
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    cost: Money = field(default_factory=Money)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What an engine said, and what it cost."""

    text: str
    spent: Spent


async def ask_engine(
    workspace: Workspace, engine: str, model: str, *, system: str, question: str, max_tokens: int
) -> Said:
    """One call, not repeated: whoever searches waits for it. Raises `EngineError`, and what `choose_engine` raises."""
    backend = choose_engine(workspace.settings, engine, folder=workspace.folder)
    request = Request(
        model=model,
        messages=(Message(role="system", text=system), Message(role="user", text=question)),
        decoding=Decoding(temperature=0.0, max_tokens=max_tokens),
    )
    tools = Tools(http=workspace.http, embedder=workspace.embedder)
    reply = await complete(backend, request, tools=tools, patience=IMPATIENT)
    price = price_in(workspace.settings, engine, model, base_url=str(getattr(backend, "base_url", "")))
    spent = Spent(engine=engine, model=model, usage=reply.usage, cost=cost_of(reply.usage, price).money)
    return Said(text=reply.text, spent=spent)


def model_of(workspace: Workspace, engine: str, model: str, *, place: str) -> str:
    """The model to ask: the one that is named, else that of [release] on the same engine. Raises `ConfigError`.

    The engine is looked up too, so that a wrong name is told when the index is built and not when it is searched.
    """
    release = workspace.settings.release
    choose_engine(workspace.settings, engine, folder=workspace.folder)
    if engine == "extractive":
        raise ConfigError(place, "the engine 'extractive' only quotes. Name one that writes: engine = \"NAME\".")
    if model or engine == release.engine:
        return model or release.model
    raise ConfigError(place, f"it names no model for the engine '{engine}'. Add: model = \"NAME\".")
