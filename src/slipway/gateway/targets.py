"""Where the requests for one release go: its engine's addresses, its rails, its price."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from slipway.config.settings import Settings
from slipway.domain.errors import SlipwayError
from slipway.domain.guardrail import Guardrails
from slipway.domain.message import Usage
from slipway.domain.release import Release
from slipway.engines.anthropic import Anthropic
from slipway.engines.base import Engine
from slipway.engines.openai import OpenAI
from slipway.engines.responses import Responses
from slipway.gateway.operations import OPERATIONS, RESPONSES
from slipway.models.choice import choose_engine
from slipway.models.prices import price_in
from slipway.tracing.cost import Rates, micros_at, rates_of
from slipway.upstream.client import Deadlines, Prepared
from slipway.upstream.translated import ChatEngine
from slipway.workspace import Workspace

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
    translator: ChatEngine | None = None
    """The engine itself where it speaks another API than OpenAI's."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    guardrails: Guardrails = NO_RAILS
    rates: Rates | None = None
    """Its price in dollars, where one is known."""
    address: str = ""
    """Where the engine is, for breakers; empty for one that does not speak HTTP."""
    broken: SlipwayError | None = None
    direct: bool = False
    """Whether chat completions go to the engine as clients write them."""

    @property
    def label(self) -> str:
        return self.release.label if self.release else f"{self.engine}/{self.model}"

    @property
    def plain(self) -> bool:
        """Whether the release adds nothing to what clients send."""
        return self.release is None or (self.release.prompt is None and self.release.index is None)

    def cost_micros(self, usage: Usage) -> int:
        """Millionths of a dollar; 0 where no price is known."""
        return self.micros_of(usage.input_tokens, usage.output_tokens, usage.cached_tokens)

    def micros_of(self, asked: int, wrote: int, cached: int = 0) -> int:
        """The same, of input tokens, output tokens, and how many of the input were cached."""
        return 0 if self.rates is None else micros_at(self.rates, asked, wrote, cached)


def make_target(workspace: Workspace, release: Release) -> Target:
    """The target of a release. A release that cannot answer here, for want of a secret say, becomes a broken target:
    the others go on."""
    engine: Engine | None = None
    broken: SlipwayError | None = None
    try:
        engine = choose_engine(workspace.settings, release.model.engine, folder=workspace.folder)
    except SlipwayError as wrong:
        broken = wrong
    return _target(
        workspace.settings,
        engine,
        release=release,
        engine_name=release.model.engine,
        model=release.model.name,
        broken=broken,
    )


def make_raw_target(workspace: Workspace, engine_name: str, model: str) -> Target:
    """A model of an engine, past every release. Raises what `choose_engine` raises."""
    engine = choose_engine(workspace.settings, engine_name, folder=workspace.folder)
    return _target(workspace.settings, engine, release=None, engine_name=engine_name, model=model, broken=None)


def _target(
    settings: Settings,
    engine: Engine | None,
    *,
    release: Release | None,
    engine_name: str,
    model: str,
    broken: SlipwayError | None,
) -> Target:
    endpoints: dict[str, tuple[Prepared, ...]] = {}
    if release is None or (release.prompt is None and release.index is None):
        try:
            if isinstance(engine, OpenAI):
                endpoints = {path: engine.endpoints(path, form=one.form) for path, one in OPERATIONS.items()}
                del endpoints["messages"]
                if not engine.responses:
                    del endpoints[RESPONSES]
            elif isinstance(engine, ChatEngine):
                endpoints = {"chat/completions": (engine.prepare_chat(model, b"", stream=False),)}
                if isinstance(engine, Anthropic):
                    endpoints["messages"] = endpoints["chat/completions"]
                    endpoints["messages/count_tokens"] = (engine.prepare_count(),)
                elif isinstance(engine, Responses):
                    endpoints[RESPONSES] = endpoints["chat/completions"]
        except SlipwayError as wrong:
            broken = wrong
    direct = isinstance(engine, OpenAI) and bool(endpoints.get("chat/completions"))
    base_url = engine.base_url if isinstance(engine, OpenAI | ChatEngine) else ""
    price = price_in(settings, engine_name, model, base_url=base_url)
    return Target(
        release=release,
        engine=engine_name,
        model=model,
        model_json=msgspec.Raw(msgspec.json.encode(model)),
        endpoints=endpoints,
        translator=engine if isinstance(engine, ChatEngine) else None,
        deadlines=engine.deadlines if isinstance(engine, OpenAI | ChatEngine) else Deadlines(),
        guardrails=release.guardrails if release else NO_RAILS,
        rates=rates_of(price) if price is not None and price.currency == "USD" else None,
        address=base_url,
        broken=broken,
        direct=direct,
    )
