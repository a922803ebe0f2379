"""Which engine, embedder, vector store and HTTP client the settings mean."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any, TypeVar

from slipway.config.secrets import Secret, read_secret
from slipway.config.settings import Settings, UpstreamSettings
from slipway.domain.errors import (
    BackendSettingInvalid,
    ConfigError,
    FileMissing,
    NotFound,
    PackageMissing,
    UnknownBackend,
    WeightsInvalid,
)
from slipway.embedders.base import Embedder, embedders
from slipway.engines.base import Engine, engines
from slipway.plugins import Registry
from slipway.upstream.client import HttpClient
from slipway.vectors.base import IndexStore, index_stores

WITHOUT_SETTINGS = ("echo", "extractive")
"""Engines that exist without a table in slipway.toml."""
OPENAI_URL = "https://api.openai.com/v1"
PROXY = re.compile(r"https?://[^\s/]+/?")


Backend = TypeVar("Backend")


def choose_engine(
    settings: Settings, name: str, *, folder: Path, environment: Mapping[str, str] | None = None
) -> Engine:
    """The engine of `[engines.NAME]`, or one that needs no table: `extractive`, `echo`, and `openai` where
    OPENAI_BASE_URL or OPENAI_API_KEY is set.

    Raises `NotFound` with the names there are, `ConfigError` for a wrong key, `SecretMissing`, `PackageMissing`.
    """
    table = _engine_table(settings, name, os.environ if environment is None else environment)
    if table is None:
        known = [*settings.engines, *WITHOUT_SETTINGS]
        raise NotFound("engine", name, known=known, next_step=f"Describe it in slipway.toml: [engines.{name}].")
    kind = str(table.pop("kind", "openai"))
    return _make(engines, kind, {"name": name} | table, place=f"[engines.{name}]", folder=folder)


def engine_names(settings: Settings, *, environment: Mapping[str, str] | None = None) -> list[str]:
    """Every name that `choose_engine` knows."""
    environment = os.environ if environment is None else environment
    names = [*settings.engines, *WITHOUT_SETTINGS]
    if _engine_table(settings, "openai", environment) is not None:
        names.append("openai")
    return sorted(set(names))


def choose_embedder(table: Mapping[str, Any], *, folder: Path | None = None) -> Embedder | None:
    """The embedder of `[retrieve] embedder`. `auto` is MiniLM where its packages and weights are, else None; `none`
    is None: search is lexical only."""
    settings = dict(table)
    kind = str(settings.pop("kind", "auto"))
    if kind == "none":
        return None
    if kind != "auto":
        return _make(embedders, kind, settings, place="[retrieve] embedder", folder=folder)
    try:
        return _make(embedders, "minilm", settings, place="[retrieve] embedder", folder=folder)
    except (PackageMissing, FileMissing, WeightsInvalid):
        return None


def choose_index_store(table: Mapping[str, Any], *, folder: Path, url: str) -> IndexStore:
    """The vector store of `[retrieve] vectors`. `auto` follows the database: Postgres where the store is there,
    else SQLite files in `folder`."""
    settings = dict(table)
    kind = str(settings.pop("kind", "auto"))
    if kind == "auto":
        kind = "postgres" if url.startswith("postgres") else "sqlite"
    own = {"folder": folder, "url": url}
    return _make(index_stores, kind, settings, place="[retrieve] vectors", folder=folder, own=own)


def choose_http(table: UpstreamSettings, *, folder: Path) -> HttpClient:
    """The HTTP client of `[upstream]`. Raises `PackageMissing` where aiohttp is to be used and is not there, and
    `ConfigError` for a proxy that cannot be used."""
    if table.transport == "own":
        if table.proxy:
            reason = 'our own client knows no proxies. Set transport = "aiohttp" beside it.'
            raise ConfigError("[upstream] proxy", reason)
        return HttpClient()
    try:
        from slipway.upstream.aiohttp_transport import AiohttpTransport
    except ModuleNotFoundError as missing:
        what = '[upstream] transport = "aiohttp"'
        raise PackageMissing(what, missing.name or "aiohttp", "pip install 'slipway[aiohttp]'") from missing
    proxy = table.proxy
    if proxy.startswith(("env:", "file:")) or "@" in proxy:
        proxy = read_secret(proxy, place="[upstream] proxy", folder=folder).reveal()
    if proxy and not PROXY.fullmatch(proxy):
        raise ConfigError("[upstream] proxy", "this is no address of a proxy. Write it as http://host:port.")
    return HttpClient(transport=AiohttpTransport(proxy=proxy, direct=table.direct))


def _engine_table(settings: Settings, name: str, environment: Mapping[str, str]) -> dict[str, Any] | None:
    if name in settings.engines:
        return dict(settings.engines[name])
    if name in WITHOUT_SETTINGS:
        return {"kind": name}
    if name == "openai" and (environment.get("OPENAI_BASE_URL") or environment.get("OPENAI_API_KEY")):
        table = {"kind": "openai", "base_url": environment.get("OPENAI_BASE_URL") or OPENAI_URL}
        if environment.get("OPENAI_API_KEY"):
            table["api_key"] = "env:OPENAI_API_KEY"
        return table
    return None


def _make(
    registry: Registry[Backend],
    kind: str,
    settings: Mapping[str, Any],
    *,
    place: str,
    folder: Path | None,
    own: Mapping[str, Any] | None = None,
) -> Backend:
    """A backend from its table: secrets are read, and what a backend is given besides its table (`own`, `name`) is
    passed only where it has such a field."""
    try:
        cls = registry.load(kind)
        hints = registry.hints(kind)
        fields = {field.name for field in dataclasses.fields(cls) if field.init}
        values = {key: value for key, value in (own or {}).items() if key in fields} | dict(settings)
        if "name" not in fields:
            values.pop("name", None)
        for key, value in values.items():
            if hints.get(key) is Secret and isinstance(value, str):
                values[key] = read_secret(value, place=f"{place} {key}", folder=folder)
        for field in dataclasses.fields(cls):
            needed = field.init and field.default is MISSING and field.default_factory is MISSING
            if needed and field.name not in values:
                raise ConfigError(place, f"the key '{field.name}' is missing. Add it.")
        return registry.make(kind, values)
    except UnknownBackend as unknown:
        raise ConfigError(place, str(unknown)) from unknown
    except BackendSettingInvalid as wrong:
        raise ConfigError(place, str(wrong)) from wrong
