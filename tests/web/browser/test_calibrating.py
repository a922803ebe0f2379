"""Calibrating the gaps in a real browser: refused in words, progress, the result without loading the page again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from slipway.domain.index import Index
from slipway.retrieve.calibration import undo_calibration
from slipway.retrieve.index import load_index

from .conftest import Watched

if TYPE_CHECKING:
    from slipway.workspace import Workspace


@pytest.fixture
def as_shipped(week: Workspace) -> Iterator[Index]:
    """The index of the shared application, which is left as it was."""
    index = load_index(week, "documents")
    yield index
    if load_index(week, "documents").calibration:
        undo_calibration(week, index)


def test_pasted_questions_calibrate_the_gaps(screen: Watched, as_shipped: Index) -> None:
    page = screen.open("/retrieve")
    page.get_by_text("Calibrate on questions of yours").click()
    page.get_by_label("Pasted questions").fill("Does express shipping cost 12 euros?")
    page.get_by_role("button", name="Calibrate", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("1 answered question is too few to keep 5 % false alarms")
    questions = page.get_by_label("Pasted questions")
    expect(questions).to_have_value("Does express shipping cost 12 euros?")
    assert screen.violations() == []
    questions.fill("\n".join(f"What does express shipping of {number} lamps cost?" for number in range(2, 42)))
    page.get_by_role("button", name="Calibrate", exact=True).click()
    # The state comes by itself when the job is done; nothing is loaded again.
    expect(page.locator("#calibration")).to_contain_text("Calibrated on your 40 questions", timeout=60_000)
    expect(page.locator("#work")).not_to_contain_text("Calibrate documents@1")
    assert screen.violations() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth"), "it scrolls sideways"
    assert [error for error in screen.errors if "400" not in error] == []
    page.get_by_role("button", name="Undo", exact=True).click()
    page.get_by_role("button", name="Undo the calibration").click()
    expect(page.locator("#calibration")).to_contain_text("Not calibrated on questions of yours")
