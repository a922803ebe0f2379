"""The fast lane over aiohttp: the same faults as over our own client, told as honestly, and all on the long way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.release.channels import promote
from slipway.upstream.pool import Pools
from slipway.workspace import open_workspace
from tests.gateway.test_express import taken  # noqa: F401 (a fixture)
from tests.gateway.test_forwarding import *  # noqa: F403
from tests.gateway.test_leaving import (  # noqa: F401
    test_a_stream_of_fifty_megabytes_that_nobody_reads_holds_up_nobody,
    test_before_the_answer,
    test_in_the_stream,
)

pytest.importorskip("aiohttp", reason="aiohttp, the extra `aiohttp`, is not installed")

TRANSPORT = '[upstream]\ntransport = "aiohttp"\n'
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def folder(tmp_path: Path, upstream: Any, tools: Any) -> Path:
    return tools.make_application(tmp_path / "lamps", upstream.url, TRANSPORT)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, mock: Any, tools: Any) -> Iterator[Any]:
    folder = tools.make_application(tmp_path_factory.mktemp("gateway") / "lamps", mock.url, TRANSPORT)
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        promote(workspace, tools.documents_release(workspace, engine="fast", model="ok"), force=True)
        with tools.serving(workspace) as served:
            yield served


def test_it_is_aiohttp_that_asks_and_every_request_goes_the_long_way(served, upstream, taken):  # noqa: F811
    assert not isinstance(served.workspace.http._transport, Pools)
    for _ in range(3):
        answer = served.chat("plain", messages=MESSAGES)
        assert answer.status_code == 200
        (span,) = served.trace(answer.headers["x-slipway-trace"])
        assert span.status == "ok"
        assert span.content["messages"] == [{"role": "user", "text": "hi"}]
    assert taken == ["long"] * 3
    assert upstream.state.asked["ok"] == 3
    assert served.gateway._counts.in_flight == 0


def test_a_release_with_documents_is_answered_over_it_too(served, upstream):
    answer = served.chat("lamps", messages=[{"role": "user", "content": "What does express shipping cost?"}])
    assert answer.status_code == 200
    assert upstream.state.asked["ok"] >= 1


def test_an_engine_that_closes_its_idle_connections_costs_no_request(served, upstream):
    for _ in range(5):
        assert served.chat("plain", messages=MESSAGES).status_code == 200
        upstream.close_connections()
