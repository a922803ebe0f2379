"""Where the requests for one release go: its engine's addresses, its rails, its price."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from slipway.domain.errors import SlipwayError
from slipway.domain.guardrail import Guardrails
from slipway.domain.message import Usage
from slipway.domain.model import Price
from slipway.domain.release import Release
from slipway.engines.base import Engine
from slipway.engines.openai import OpenAI
from slipway.models.catalog import price_of
from slipway.models.choice import choose_engine
from slipway.tracing.cost import cost_of
from slipway.upstream.client import Deadlines, Prepared
from slipway.workspace import Workspace

FORWARDED = ("chat/completions", "embeddings")
NO_RAILS = Guardrails()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the gateway needs to know about one release, or about one raw model of an engine (`release` None).

    `endpoints` is empty where requests cannot be forwarded as they are: the release has a prompt or an index of its
    own, or its engine does not speak HTTP.
    """

    release: Release | None
    engine: str
    model: str
    model_json: msgspec.Raw
    endpoints: dict[str, tuple[Prepared, ...]] = field(default_factory=dict)
    deadlines: Deadlines = field(default_factory=Deadlines)
    guardrails: Guardrails = NO_RAILS
    price: Price | None = None
    address: str = ""
    """Where the engine is, for breakers; empty for one that does not speak HTTP."""
    broken: SlipwayError | None = None

    @property
    def label(self) -> str:
        return self.release.label if self.release else f"{self.engine}/{self.model}"

    @property
    def plain(self) -> bool:
        """Whether the release adds nothing to what clients send."""
        return self.release is None or (self.release.prompt is None and self.release.index is None)

    def cost_micros(self, usage: Usage) -> int:
        """Millionths of a dollar; 0 where no price is known."""
        if self.price is None:
            return 0
        cost = cost_of(usage, self.price)
        return cost.money.micros if cost.known and cost.money.currency == "USD" else 0


def make_target(workspace: Workspace, release: Release) -> Target:
    """The target of a release. A release that cannot answer here, for want of a secret say, becomes a broken target:
    the others go on."""
    engine: Engine | None = None
    broken: SlipwayError | None = None
    try:
        engine = choose_engine(workspace.settings, release.model.engine, folder=workspace.folder)
    except SlipwayError as wrong:
        broken = wrong
    return _target(engine, release=release, engine_name=release.model.engine, model=release.model.name, broken=broken)


def make_raw_target(workspace: Workspace, engine_name: str, model: str, *, priced: bool = False) -> Target:
    """A model of an engine, past every release. Raises what `choose_engine` raises."""
    engine = choose_engine(workspace.settings, engine_name, folder=workspace.folder)
    return _target(engine, release=None, engine_name=engine_name, model=model, broken=None, priced=priced)


def _target(
    engine: Engine | None,
    *,
    release: Release | None,
    engine_name: str,
    model: str,
    broken: SlipwayError | None,
    priced: bool = False,
) -> Target:
    forwards = isinstance(engine, OpenAI) and (release is None or (release.prompt is None and release.index is None))
    endpoints: dict[str, tuple[Prepared, ...]] = {}
    if forwards:
        assert isinstance(engine, OpenAI)
        try:
            endpoints = {path: engine.endpoints(path) for path in FORWARDED}
        except SlipwayError as wrong:
            broken = wrong
    price = None
    if release is not None or priced:
        # The price list is heavy to load; a raw model, which is looked up in the middle of a request, is priced later,
        # by the ingester.
        base_url = engine.base_url if isinstance(engine, OpenAI) else ""
        price = price_of(engine_name, model, at=datetime.now(UTC).date(), base_url=base_url)
    return Target(
        release=release,
        engine=engine_name,
        model=model,
        model_json=msgspec.Raw(msgspec.json.encode(model)),
        endpoints=endpoints,
        deadlines=engine.deadlines if isinstance(engine, OpenAI) else Deadlines(),
        guardrails=release.guardrails if release else NO_RAILS,
        price=price,
        address=engine.base_url if isinstance(engine, OpenAI) else "",
        broken=broken,
    )
