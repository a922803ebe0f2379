"""[upstream]: which HTTP client carries requests to engines, and what keeps it from that."""

import builtins
from pathlib import Path
from typing import Any

import pytest

from slipway.config.reader import parse_settings
from slipway.config.settings import Settings
from slipway.domain.errors import ConfigError, PackageMissing, SecretMissing
from slipway.models.choice import choose_http
from slipway.upstream.pool import Pools


def settings(**upstream: Any) -> Settings:
    return parse_settings({"application": {"name": "lamps"}, "upstream": upstream})


def choose(folder: Path, **upstream: Any) -> Any:
    return choose_http(settings(**upstream).upstream, folder=folder)._transport


def test_ours_carries_requests_where_nothing_is_said(tmp_path):
    assert isinstance(choose(tmp_path), Pools)


def test_aiohttp_does_where_it_is_named(tmp_path, monkeypatch):
    pytest.importorskip("aiohttp", reason="aiohttp, the extra `aiohttp`, is not installed")
    from slipway.upstream.aiohttp_transport import AiohttpTransport

    assert isinstance(choose(tmp_path, transport="aiohttp"), AiohttpTransport)
    assert isinstance(choose(tmp_path, transport="aiohttp", proxy="http://proxy.test:3128"), AiohttpTransport)
    monkeypatch.setenv("PROXY", "http://anna:secret@proxy.test:3128")
    assert isinstance(choose(tmp_path, transport="aiohttp", proxy="env:PROXY"), AiohttpTransport)


def test_a_missing_package_is_named_with_the_line_that_installs_it(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name: str, *given: Any, **named: Any) -> Any:
        if name.startswith(("aiohttp", "slipway.upstream.aiohttp_transport")):
            raise ModuleNotFoundError(f"No module named '{name}'", name="aiohttp")
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PackageMissing, match=r"package 'aiohttp'.*pip install 'slipway\[aiohttp\]'"):
        choose(tmp_path, transport="aiohttp")


def test_a_proxy_needs_a_transport_that_knows_proxies(tmp_path):
    with pytest.raises(ConfigError, match=r"\[upstream\] proxy: .*transport = \"aiohttp\""):
        choose(tmp_path, proxy="http://proxy.test:3128")


def test_a_proxy_is_an_address_and_its_password_stands_elsewhere(tmp_path):
    pytest.importorskip("aiohttp", reason="aiohttp, the extra `aiohttp`, is not installed")
    with pytest.raises(ConfigError, match="no address of a proxy"):
        choose(tmp_path, transport="aiohttp", proxy="proxy.test:3128")
    with pytest.raises(SecretMissing, match="never written into this file"):
        choose(tmp_path, transport="aiohttp", proxy="http://anna:secret@proxy.test:3128")


def test_another_transport_is_refused_with_its_place():
    with pytest.raises(ConfigError, match=r"\[upstream\] transport"):
        settings(transport="httpx")
