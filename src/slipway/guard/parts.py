"""The guardrails part of a release: rails from slipway.toml, checked and pinned by hash."""

from collections.abc import Mapping, Sequence
from typing import Any

from slipway.config.settings import Settings
from slipway.domain.errors import ConfigError, InputError, did_you_mean
from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.domain.ids import ContentHash, hash_parts
from slipway.guard.checker import rail_of

ACTIONS = ("flag", "redact", "block")


def guardrails_from_settings(settings: Settings) -> Guardrails:
    """The rails of `[guard]`. Raises `ConfigError` with the place of an unknown rail, action, key or value."""
    before = read_rails(settings.guard.before, place="[guard] before")
    after = read_rails(settings.guard.after, place="[guard] after")
    when_undecided = settings.guard.when_undecided
    return Guardrails(
        before=before,
        after=after,
        when_undecided=when_undecided,
        hash=hash_guardrails(before, after, when_undecided),
    )


def read_rails(tables: Sequence[Mapping[str, Any]], *, place: str) -> tuple[RailSpec, ...]:
    """Rails from tables `{rail = "length", action = "block", max_characters = 4000}`. Raises `ConfigError`."""
    return tuple(read_rail(table, place=f"{place}[{number}]") for number, table in enumerate(tables))


def read_rail(table: Mapping[str, Any], *, place: str) -> RailSpec:
    """One rail from its table. Raises `ConfigError`."""
    settings = dict(table)
    name, action = settings.pop("rail", None), settings.pop("action", "block")
    if not isinstance(name, str):
        raise ConfigError(
            place, 'the rail is not named. Write rail = "personal_data" (list them: slipway guard rails).'
        )
    if action not in ACTIONS:
        raise ConfigError(place, f"unknown action '{action}'.{did_you_mean(str(action), ACTIONS)}")
    for key, value in list(settings.items()):
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            settings[key] = ", ".join(value)
        elif not isinstance(value, str | int | float | bool):
            raise ConfigError(place, f"'{key}' must be a text, a number or true/false; write lists as \"a, b\".")
    spec = RailSpec(name=name, action=action, settings=settings)
    try:
        rail = rail_of(spec)
    except InputError as wrong:
        raise ConfigError(place, str(wrong)) from wrong
    if action == "redact" and not rail.redacts:
        raise ConfigError(place, f'rail \'{name}\' has nothing to redact. Use action = "flag" or "block".')
    return spec


def hash_guardrails(before: Sequence[RailSpec], after: Sequence[RailSpec], when_undecided: str) -> ContentHash:
    """Hash of what the rails do: their settings and what their behaviour depends on, such as weights."""

    def pin(spec: RailSpec) -> dict[str, object]:
        return {
            "rail": spec.name,
            "action": spec.action,
            "settings": dict(sorted(spec.settings.items())),
            "fingerprint": rail_of(spec).fingerprint(),
        }

    return hash_parts({"before": [*map(pin, before)], "after": [*map(pin, after)], "when_undecided": when_undecided})
