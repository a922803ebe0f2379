"""The shared application with MiniLM, for what only happens with vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.domain.errors import FileMissing, PackageMissing
from slipway.workspace import Workspace, open_workspace


@pytest.fixture
def with_vectors(application: Path) -> Iterator[Workspace]:
    """The application, searched by words and vectors."""
    from slipway.embedders.minilm import MiniLM

    try:
        MiniLM()
    except (PackageMissing, FileMissing) as missing:
        pytest.skip(str(missing))
    settings = application / "slipway.toml"
    settings.write_text(settings.read_text(encoding="utf-8").replace('kind = "none"', 'kind = "minilm"'))
    with open_workspace(application) as opened:
        yield opened
