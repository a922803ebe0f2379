"""A store on SQLite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.config.secrets import Secret
from slipway.store.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(
        f"sqlite:///{tmp_path / 'store.db'}", project="lamps", folder=tmp_path, master_key=Secret("0f" * 32)
    ) as opened:
        yield opened
