"""The open project: settings and handles that verbs take, no verbs of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from slipway.config.reader import load_settings
from slipway.config.secrets import read_secret
from slipway.config.settings import Settings
from slipway.embedders.base import Embedder
from slipway.models.choice import choose_embedder, choose_http, choose_index_store
from slipway.store.store import Store, open_store
from slipway.upstream.client import HttpClient
from slipway.vectors.base import IndexStore


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Handles of one application: folder, settings, store, index store, embedder, HTTP client, clock.

    `embedder` is None when search is lexical only.
    """

    folder: Path
    settings: Settings
    store: Store
    indexes: IndexStore
    embedder: Embedder | None
    http: HttpClient
    now: Callable[[], datetime] = utc_now

    @property
    def application(self) -> str:
        return self.settings.application.name

    @property
    def state(self) -> Path:
        """Folder of everything that Slipway writes for itself."""
        return self.folder / ".slipway"

    def close(self) -> None:
        self.indexes.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_workspace(folder: Path | str, *, settings: Settings | None = None) -> Workspace:
    """Opens the application in `folder`; creates or migrates its database.

    Raises `NotAnApplication`, `ConfigError`, `PackageMissing`, `StoreError`.
    """
    folder = Path(folder).resolve()
    settings = settings or load_settings(folder)
    state = folder / ".slipway"
    http = choose_http(settings.upstream, folder=folder)
    url = settings.store.url
    if url.startswith(("env:", "file:")):
        url = read_secret(url, place="[store] url", folder=folder).reveal()
    store = open_store(
        url or f"sqlite:///{state / 'store.db'}",
        project=settings.application.name,
        folder=state,
        master_key=read_secret(settings.privacy.master_key, place="[privacy] master_key", folder=folder),
    )
    return Workspace(
        folder=folder,
        settings=settings,
        store=store,
        indexes=choose_index_store(settings.retrieve.vectors, folder=state / "indexes", url=url),
        embedder=choose_embedder(settings.retrieve.embedder),
        http=http,
    )
