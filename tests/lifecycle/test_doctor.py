"""The doctor looks at the machine and at the application, and names a remedy for each problem."""

from pathlib import Path

import pytest

from slipway.lifecycle.doctor import Finding, examine


def by_name(folder: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(folder)}


def test_a_healthy_application_has_no_problem(application: Path) -> None:
    found = by_name(application)
    assert found.keys() >= {"python", "disk", "settings", "backends", "store", "documents"}
    assert [finding for finding in found.values() if finding.state == "problem"] == []


def test_without_an_application_that_is_a_note(tmp_path: Path) -> None:
    found = by_name(tmp_path)
    assert found["application"].state == "note"
    assert "slipway init" in found["application"].remedy
    assert list(tmp_path.iterdir()) == [], "looking writes nothing"


@pytest.mark.parametrize(
    ("line", "name", "detail"),
    [
        pytest.param("[prompts]\n", "settings", "prompts", id="an unknown table"),
        pytest.param('[release]\nengine = "far"\n', "backends", "far", id="an unknown engine"),
        pytest.param('[store]\nurl = "sqlite:////dev/null/store.db"\n', "store", "null", id="no store"),
        pytest.param('[guard]\nbefore = [{ rail = "shouting" }]\n', "backends", "shouting", id="an unknown rail"),
        pytest.param('[upstream]\nproxy = "http://p:1"\n', "backends", "aiohttp", id="a proxy that nobody asks"),
    ],
)
def test_a_problem_is_named(application: Path, line: str, name: str, detail: str) -> None:
    with (application / "slipway.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n{line}")
    finding = by_name(application)[name]
    assert finding.state == "problem"
    assert detail in finding.detail
    assert finding.remedy


def test_documents_that_are_not_there_are_a_problem(application: Path) -> None:
    (application / "documents").rename(application / "papers")
    finding = by_name(application)["documents"]
    assert finding.state == "problem"
    assert "slipway.toml" in finding.remedy
