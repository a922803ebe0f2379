"""The tiny application with more settings, its index built and its release cut."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from slipway.domain.release import Release
from slipway.release.parts import cut_release
from slipway.retrieve.index import build_index
from slipway.workspace import Workspace, open_workspace

Cut = Callable[..., tuple[Workspace, Release]]


@pytest.fixture
def cut(application: Path) -> Iterator[Cut]:
    """Called with lines of slipway.toml and further documents: the opened application and its release."""
    with ExitStack() as opened:

        def make(settings: str = "", **documents: str) -> tuple[Workspace, Release]:
            file = application / "slipway.toml"
            file.write_text(file.read_text(encoding="utf-8") + settings, encoding="utf-8")
            for name, text in documents.items():
                (application / "documents" / f"{name}.md").write_text(text, encoding="utf-8")
            workspace = opened.enter_context(open_workspace(application))
            build_index(workspace)
            return workspace, cut_release(workspace)

        yield make
