"""Registries of backends: one file with one decorator each, loaded when named."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_type_hints

import msgspec

from slipway.domain.errors import BackendSettingInvalid, PackageMissing, UnknownBackend, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

PIP_LINES = {
    "tokenizers": "pip install 'slipway[local]'",
    "safetensors": "pip install 'slipway[local]'",
    "onnxruntime": "pip install 'slipway[local]'",
    "psycopg": "pip install 'slipway[postgres]'",
    "pyarrow": "pip install 'slipway[analytics]'",
    "torch": "slipway doctor --fix train",
    "transformers": "pip install 'slipway[train]'",
    "peft": "pip install 'slipway[train]'",
}


Backend = TypeVar("Backend")


class Registry(Generic[Backend]):
    """The backends of one kind. `package` is the folder whose files are the list; other
    distributions add to it through an entry-point group of the same dotted name.

    >>> engines: Registry[Engine] = Registry("engine", package="slipway.engines")
    >>> @engines.register("echo")
    ... @dataclass(frozen=True)
    ... class Echo: ...
    """

    def __init__(self, kind: str, *, package: str) -> None:
        self.kind = kind
        self.package = package
        self._classes: dict[str, type[Any]] = {}
        self._hints: dict[type[Any], dict[str, Any]] = {}

    def register(self, name: str) -> Callable[[type[Any]], type[Any]]:
        def keep(cls: type[Any]) -> type[Any]:
            self._classes[name] = cls
            return cls

        return keep

    def names(self) -> list[str]:
        """Every backend that could be named, without importing any of them."""
        package = importlib.import_module(self.package)
        own = {module.name for module in pkgutil.iter_modules(package.__path__) if module.name != "base"}
        return sorted(own | set(self._classes) | set(self._entry_points()))

    def load(self, name: str) -> type[Any]:
        """The class of one backend. Raises `UnknownBackend`, or `PackageMissing` with its pip line."""
        if name in self._classes:
            return self._classes[name]
        known = self.names()
        if name not in known:
            raise UnknownBackend(self.kind, name, known)
        try:
            foreign = self._entry_points().get(name)
            if foreign is not None:
                self._classes[name] = foreign()
            else:
                importlib.import_module(f"{self.package}.{name}")
        except ModuleNotFoundError as missing:
            raise missing_package(f"{self.kind} '{name}'", missing) from missing
        return self._classes[name]

    def make(self, name: str, settings: Mapping[str, Any] | None = None) -> Backend:
        """A backend with these settings, which are checked against the fields of its dataclass."""
        cls = self.load(name)
        given = dict(settings or {})
        known = [field.name for field in dataclasses.fields(cls) if field.init]
        for key in given:
            if key not in known:
                raise BackendSettingInvalid(self.kind, name, f"unknown key '{key}'.{did_you_mean(key, known)}")
        hints = self.hints(name)
        try:
            values = {key: msgspec.convert(value, hints[key], strict=False) for key, value in given.items()}
            backend: Backend = cls(**values)
        except (msgspec.ValidationError, TypeError, ValueError) as wrong:
            raise BackendSettingInvalid(self.kind, name, str(wrong)) from wrong
        return backend

    def hints(self, name: str) -> dict[str, Any]:
        """Types of the fields of a backend. Read once: that takes longer than to make one."""
        cls = self.load(name)
        if cls not in self._hints:
            self._hints[cls] = get_type_hints(cls)
        return self._hints[cls]

    def help(self, name: str) -> str:
        """First line of a backend's docstring."""
        return (self.load(name).__doc__ or "").strip().split("\n")[0]

    def _entry_points(self) -> dict[str, Callable[[], type[Any]]]:
        return {point.name: point.load for point in _installed_entry_points().select(group=self.package)}


@cache
def _installed_entry_points() -> EntryPoints:
    """Read once: finding them opens a file of every installed distribution, about 20 ms each time."""
    from importlib.metadata import EntryPoints, distributions

    return EntryPoints(point for found in distributions() for point in found.entry_points)


def missing_package(what: str, error: ModuleNotFoundError) -> PackageMissing:
    """The error that names a missing package with its own pip line."""
    package = (error.name or "?").split(".")[0]
    return PackageMissing(what, package, PIP_LINES.get(package, f"pip install {package}"))
