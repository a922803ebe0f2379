"""The scripted upstream of the benchmarks, in a thread of the test."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MOCK = Path(__file__).parents[2] / "benchmarks" / "gateway" / "mock_upstream.py"


@pytest.fixture
def upstream() -> Iterator[Any]:
    with runpy.run_path(str(MOCK))["MockUpstream"]() as mock:
        yield mock
