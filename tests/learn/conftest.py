"""The tiny application with its release cut, and users who ask it."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from slipway.domain.answer import Answer
from slipway.domain.ids import SubjectId
from slipway.domain.release import Release
from slipway.release.parts import cut_release
from slipway.release.pipeline import Asked, answer
from slipway.retrieve.index import build_index
from slipway.workspace import Workspace, open_workspace

Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture
def release(workspace: Workspace) -> Release:
    """The first release of the application."""
    build_index(workspace)
    return cut_release(workspace)


@pytest.fixture
def ask(workspace: Workspace, release: Release) -> Ask:
    """A user's question to the release."""

    async def put(question: str, *, user: str = "anna", channel: str = "lamps") -> Answer:
        asked = Asked(question=question, subject=SubjectId(user), channel=channel)
        return await answer(release, asked, workspace=workspace)

    return put


@pytest.fixture
def parrot(application: Path) -> Iterator[Callable[[str], tuple[Workspace, Release]]]:
    """The application with an engine that always gives this reply."""
    opened: list[Workspace] = []

    def make(reply: str) -> tuple[Workspace, Release]:
        with (application / "slipway.toml").open("a", encoding="utf-8") as file:
            file.write(
                f'\n[release]\nengine = "parrot"\nmodel = "p"\n[engines.parrot]\nkind = "echo"\nreply = "{reply}"\n'
            )
        workspace = open_workspace(application)
        opened.append(workspace)
        build_index(workspace)
        return workspace, cut_release(workspace)

    yield make
    for workspace in opened:
        workspace.close()
