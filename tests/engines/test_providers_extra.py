"""What is said where the extra `providers` is not installed."""

import sys

import pytest

from slipway.domain.errors import PackageMissing
from slipway.engines.base import engines


def test_without_its_package_the_engine_names_the_line_that_installs_it(monkeypatch):
    engines.load("any_llm")
    sdk = sys.modules["slipway.engines.any_llm"]._sdk
    sdk.cache_clear()
    monkeypatch.setitem(sys.modules, "any_llm", None)
    with pytest.raises(PackageMissing, match=r"pip install 'slipway\[providers\]'"):
        engines.make("any_llm", {"provider": "cohere"})
