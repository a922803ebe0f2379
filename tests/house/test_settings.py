"""slipway.toml: whatever stands there, it is read or named with its place."""

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from slipway.config.reader import load_settings
from slipway.config.settings import Settings
from slipway.domain.errors import ConfigError
from slipway.guard.parts import guardrails_from_settings

TABLES = {
    field.name: [key.name for key in msgspec.structs.fields(field.type)]
    for field in msgspec.structs.fields(Settings)
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
}
VALUES = st.sampled_from(
    ["1", "-1", "1e400", "nan", "true", '"x"', '""', "[]", '["a"]', "[1]", "{}", "{a = 1}", "2020-01-01", "9" * 30]
) | st.sampled_from(['[{rail = "length", max_characters = -1}]', '[{rail = "schema", schema = "{"}]', "[{rail = 1}]"])
LINE = st.sampled_from([(table, key) for table, keys in TABLES.items() for key in keys])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(LINE, VALUES), max_size=3, unique_by=lambda line: line[0][0]), VALUES)
@example([(("guard", "before"), "9" * 5000)], "1")
@example([(("guard", "before"), "[" * 2000 + "]" * 2000)], "1")
@example([], "9" * 5000)
@example([], "[" * 2000 + "]" * 2000)
def test_a_value_of_another_type_is_named(tmp_path: Path, lines: list[tuple[tuple[str, str], str]], more: str) -> None:
    text = "\n".join(f"[{table}]\n{key} = {value}" for (table, key), value in lines)
    (tmp_path / "slipway.toml").write_text(text)
    with suppress(ConfigError):
        guardrails_from_settings(load_settings(tmp_path, environment={"SLIPWAY_GUARD__AFTER": more}))


def test_a_key_from_the_environment_for_a_table_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "slipway.toml").write_text("guard = 5")
    with pytest.raises(ConfigError, match="guard"):
        load_settings(tmp_path, environment={"SLIPWAY_GUARD__BEFORE": "[]"})
