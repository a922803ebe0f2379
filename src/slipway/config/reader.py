"""Reads slipway.toml and the environment into settings, and names what is wrong and where."""

import math
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from slipway.config.settings import Settings
from slipway.domain.errors import ConfigError, NotAnApplication, did_you_mean

FILE_NAME = "slipway.toml"
UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`(?: - at `\$\.?(?P<at>[^`]*)`)?")
WRONG = re.compile(r"(?P<reason>.*?) - at `\$\.?(?P<at>[^`]*)`$", re.S)


def load_settings(folder: Path, *, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings of the application in `folder`.

    `SLIPWAY_TABLE__KEY=value` in the environment overrides `[table] key`. Raises `NotAnApplication` when there is
    no slipway.toml, `ConfigError` with the place of the first thing that is wrong.
    """
    path = folder / FILE_NAME
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotAnApplication(folder) from None
    except (ValueError, RecursionError) as wrong:
        raise ConfigError("", f"this is not valid TOML: {wrong}. Correct that line.", path=path) from wrong
    except OSError as wrong:
        raise ConfigError("", f"the file cannot be read ({wrong.strerror}).", path=path) from wrong
    _override(raw, os.environ if environment is None else environment)
    _refuse_endless(raw, (), path)
    return parse_settings(raw, path=path)


def parse_settings(raw: Mapping[str, Any], *, path: object = FILE_NAME) -> Settings:
    """Settings from plain tables, checked against types, bounds and known keys."""
    try:
        return msgspec.convert(raw, Settings)
    except msgspec.ValidationError as wrong:
        raise _explain(str(wrong), path) from None


def _override(raw: dict[str, Any], environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        if not name.startswith("SLIPWAY_") or "__" not in name:
            continue
        table, _, key = name.removeprefix("SLIPWAY_").lower().partition("__")
        try:
            parsed: Any = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            parsed = value
        keys = raw.setdefault(table, {})
        # A table that is none is told of by its own place in the file.
        if isinstance(keys, dict):
            keys[key] = parsed


def _refuse_endless(value: Any, at: tuple[str, ...], path: object) -> None:
    """TOML knows `nan` and `inf`; no setting does, and those of backends have no bounds that would tell. Raises
    `ConfigError`."""
    if isinstance(value, float) and not math.isfinite(value):
        place = f"[{'.'.join(at[:-1])}] {at[-1]}" if len(at) > 1 else "".join(at)
        raise ConfigError(place, f"expected a number, not {value}.", path=path)
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        _refuse_endless(one, (*at, str(name)), path)


def _explain(message: str, path: object) -> ConfigError:
    if unknown := UNKNOWN.match(message):
        place = unknown["at"] or ""
        known = _known_keys(place)
        what = "key" if place else "table"
        return ConfigError(
            f"[{place}]" if place else "",
            f"unknown {what} '{unknown['key']}'.{did_you_mean(unknown['key'], known)}",
            path=path,
        )
    if wrong := WRONG.match(message):
        table, _, key = wrong["at"].rpartition(".")
        return ConfigError(f"[{table}] {key}" if table else f"[{wrong['at']}]", f"{wrong['reason']}.", path=path)
    return ConfigError("", f"{message}.", path=path)


def _known_keys(place: str) -> list[str]:
    struct: Any = Settings
    for name in re.sub(r"\[[^\]]*\]", "", place).split("."):
        if not name:
            continue
        field = next((field for field in msgspec.structs.fields(struct) if field.name == name), None)
        if field is None:
            return []
        struct = _struct_inside(field.type)
        if struct is None:
            return []
    return [field.name for field in msgspec.structs.fields(struct)]


def _struct_inside(annotation: Any) -> type[msgspec.Struct] | None:
    """The settings class inside `list[X]`, `Annotated[X, …]` or X itself."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _struct_inside(inner)) is not None:
            return found
    return None
