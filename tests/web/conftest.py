"""The seeded application, once for all tests of the pages, and a client that speaks to them without a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from slipway.web.app import create_app

from .seed import seed, write_application

if TYPE_CHECKING:
    from slipway.workspace import Workspace

BASE = "http://127.0.0.1"


def client_of(workspace: Workspace, **options: object) -> TestClient:
    """A browser on the same machine; jobs wait for `run_pending`."""
    app = create_app(workspace, work_in_background=False, **options)  # type: ignore[arg-type]
    return TestClient(app, base_url=BASE, follow_redirects=False, client=("127.0.0.1", 50000))


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A week in the life of a small application. Tests that change it use `workspace` instead."""
    with seed(write_application(tmp_path_factory.mktemp("seeded") / "lamps")) as opened:
        yield opened


@pytest.fixture(scope="session")
def pages(seeded: Workspace) -> TestClient:
    return client_of(seeded)


@pytest.fixture
def empty_pages(workspace: Workspace) -> TestClient:
    """Pages of an application in which nothing happened yet."""
    return client_of(workspace)
