"""Applications whose engine follows a script, and releases cut from them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from slipway.domain.errors import EngineRefused, EngineUnreachable
from slipway.domain.message import Reply, Request, Usage
from slipway.domain.release import Release
from slipway.engines.base import Tools, engines
from slipway.release.parts import cut_release
from slipway.retrieve.documents import load_documents
from slipway.retrieve.index import build_index
from slipway.workspace import Workspace, open_workspace

SCRIPT = {
    "return a parcel": "You can return a parcel within 30 days after delivery. [1]",
    "express shipping cost": "Express shipping costs 12 euros. [1]",
    "warranty of a lamp": "Every lamp has a warranty of five years. [1]",
    "dog": "The documents do not answer this question.",
}
GUARD = '\n[guard]\nbefore = [{ rail = "length", action = "block", max_characters = 2000 }]\nafter = []\n'


@engines.register("flaky")
@dataclass(frozen=True, slots=True, kw_only=True)
class Flaky:
    """Answers from a script until it is told to fail: a question at a time, or altogether after some calls."""

    calls: ClassVar[list[str]] = []
    name: str = "flaky"
    script: dict[str, str] = field(default_factory=lambda: dict(SCRIPT))
    refuses: str = ""
    dies_after: int = 1_000_000

    async def complete(self, request: Request, *, tools: Tools) -> Reply:
        if len(self.calls) >= self.dies_after:
            raise EngineUnreachable(self.name, "http://127.0.0.1:9/v1", "connection refused")
        self.calls.append(request.question)
        if self.refuses and self.refuses in request.question:
            raise EngineRefused(self.name, 400, "this question is too odd")
        text = next((reply for part, reply in self.script.items() if part in request.question), "I am not sure.")
        return Reply(text=text, model=request.model, usage=Usage(input_tokens=10, output_tokens=len(text.split())))


OpenWith = Callable[..., tuple[Workspace, Release]]


@pytest.fixture
def open_with(application: Path) -> Iterator[OpenWith]:
    """Opens the application with an engine of this table and cuts its release."""
    plain = (application / "slipway.toml").read_text(encoding="utf-8")
    Flaky.calls.clear()

    with ExitStack() as stack:

        def open_(engine: str = "scripted", extra: str = "", **table: object) -> tuple[Workspace, Release]:
            keys = {"kind": "flaky"} | table
            lines = "".join(f"{key} = {_toml(value)}\n" for key, value in keys.items())
            chosen = f'[release]\nengine = "{engine}"\nmodel = "test"\n\n[engines.{engine}]\n{lines}'
            text = f"{plain}{GUARD}\n{chosen}\n{extra}"
            (application / "slipway.toml").write_text(text, encoding="utf-8")
            workspace = stack.enter_context(open_workspace(application))
            build_index(workspace, documents=load_documents([application / "documents"]).documents)
            return workspace, cut_release(workspace)

        yield open_


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_toml(inner)}' for key, inner in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else str(value)
