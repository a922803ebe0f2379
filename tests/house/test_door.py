"""The Python door: every name it promises is there, and the example in the README runs as it stands."""

import re
from pathlib import Path

import pytest

import slipway

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", sorted(slipway.__all__))
def test_a_promised_name_is_there(name: str) -> None:
    assert getattr(slipway, name) is not None
    assert name in dir(slipway)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'slideway'"):
        slipway.slideway  # noqa: B018


def test_the_example_in_the_readme_answers_with_a_citation(
    application: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = next(code for code in re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S) if "bring_up" in code)
    application.rename(application.parent / "handbook")
    monkeypatch.chdir(application.parent)
    question = "Within how many days can I return a parcel?"
    exec(compile(example.replace("How many days of leave do I have?", question), "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "30 days" in said
    assert "returns.md" in said
