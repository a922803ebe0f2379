"""Which model answers when the release's own cannot: its prompt, passages and guardrails stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from slipway.domain.errors import EngineError
from slipway.domain.message import Request
from slipway.domain.model import Model
from slipway.engines.base import Engine
from slipway.models.choice import choose_engine
from slipway.models.patience import IMPATIENT, PATIENCE, Patience
from slipway.workspace import Workspace


class Detour(Protocol):
    """What whoever serves a release knows about the health of engines and about who stands in for them."""

    @property
    def impatient(self) -> bool:
        """Whether somebody stands in, so that nobody needs to be asked twice."""
        ...

    def refusal(self, model: Model, address: str) -> EngineError | None:
        """Why an engine must not be asked now."""
        ...

    def came_to(self, model: Model, address: str, failure: EngineError | None) -> None:
        """What became of a call that was allowed."""
        ...

    def streamed(self, model: Model, address: str, failure: EngineError | None) -> None:
        """What became of a stream that had begun."""
        ...

    def left(self, model: Model, address: str) -> None:
        """The call ended before the engine said anything."""
        ...

    def others(self, failure: EngineError) -> Sequence[Model]:
        """Who may answer instead, in order."""
        ...

    async def turn(self, model: Model) -> bool:
        """Whether to ask one of these, once it is known."""
        ...


class Route:
    """The models that one request asks, one after the other. Without a detour it is the release's own, patiently."""

    def __init__(self, model: Model, workspace: Workspace, detour: Detour | None) -> None:
        self.model = model
        self.address = ""
        self._workspace = workspace
        self._detour = detour
        self._first: EngineError | None = None
        self._waiting: list[Model] = []

    @property
    def patience(self) -> Patience:
        return IMPATIENT if self._detour is not None and self._detour.impatient else PATIENCE

    def engine(self) -> Engine:
        """The engine to ask now. Raises `EngineError` when it must be left alone, and what `choose_engine` raises."""
        engine = choose_engine(self._workspace.settings, self.model.engine, folder=self._workspace.folder)
        self.address = str(getattr(engine, "base_url", ""))
        if self._detour is not None and (refusal := self._detour.refusal(self.model, self.address)) is not None:
            raise Refused(refusal)
        return engine

    def request(self, request: Request) -> Request:
        return request if request.model == self.model.name else replace(request, model=self.model.name)

    def answered(self) -> None:
        if self._detour is not None:
            self._detour.came_to(self.model, self.address, None)

    def streamed(self, failure: EngineError | None) -> None:
        if self._detour is not None:
            self._detour.streamed(self.model, self.address, failure)

    def left(self) -> None:
        if self._detour is not None:
            self._detour.left(self.model, self.address)

    async def go_on(self, failure: EngineError) -> None:
        """Turns to the next model. Raises the first failure when there is none."""
        refused = isinstance(failure, Refused)
        failure = failure.why if isinstance(failure, Refused) else failure
        if self._detour is None:
            raise failure
        if not refused:
            self._detour.came_to(self.model, self.address, failure)
        if self._first is None:
            self._first = failure
            self._waiting = list(self._detour.others(failure))
        while self._waiting:
            self.model = self._waiting.pop(0)
            if await self._detour.turn(self.model):
                return
        raise self._first


class Refused(EngineError):
    """An engine was not asked; `why` is what the client is told."""

    def __init__(self, why: EngineError) -> None:
        self.why = why
        super().__init__(str(why))
