"""The pages of traces in a browser: axe, no sideways scroll, thousands of steps by keyboard, filters as typed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from ..test_traces import add_conversation, add_many_steps
from .conftest import Watched

if TYPE_CHECKING:
    from slipway.workspace import Workspace


@pytest.fixture(scope="module")
def addresses(week: Workspace) -> dict[str, str]:
    """Pages that only these traces have."""
    talk = add_conversation(week, 4)
    many = add_many_steps(week, 2000)
    session = week.store.traces.summary(talk[0]).session
    row = next(row for row in week.store.traces.list(query="span.kind = retrieval").rows if row.release)
    return {
        "trace": f"/traces/{row.id}",
        "thousands": f"/traces/{many}",
        "compared": f"/traces/{talk[0]}/compare/{talk[1]}",
        "conversation": f"/traces/session?id={quote(session)}",
        "wrong filter": "/traces?filter=status+%3D+ok+and+latenzy+%3E+1",
    }


@pytest.mark.parametrize("name", ["trace", "thousands", "compared", "conversation", "wrong filter"])
def test_a_page_of_traces_is_sound(screen: Watched, addresses: dict[str, str], name: str) -> None:
    page = screen.open(addresses[name])
    assert screen.violations() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth"), "it scrolls sideways"
    assert [error for error in screen.errors if not (name == "wrong filter" and "400" in error)] == []
    assert screen.foreign == []
    assert page.evaluate("document.querySelectorAll('*').length") < 2000


def test_help_on_filters_lies_inside_the_page(screen: Watched) -> None:
    page = screen.open("/traces")
    page.get_by_text("Filter help").click()
    box = page.locator(".filter-help").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= page.evaluate("innerWidth")
    assert screen.violations() == []


def test_a_filter_is_answered_as_it_is_typed(tab: Watched, addresses: dict[str, str]) -> None:
    page = tab.open("/traces?since=")
    field = page.get_by_label("Filter, such as latency > 2s")
    field.fill('text ~ "turn" and latenzy > 1')
    page.get_by_text("Did you mean 'latency'?").wait_for()
    field.fill('text ~ "turn" and latency > 1ms')
    page.get_by_text("Turn 3").wait_for()
    assert page.locator("#list tbody tr").count() == 4
    assert "filter=" in page.url


def test_steps_of_a_long_trace_are_opened_by_keyboard(tab: Watched, addresses: dict[str, str]) -> None:
    page = tab.open(addresses["thousands"])
    page.get_by_role("link", name="Later steps").press("Enter")
    page.get_by_text("101 to 200 of").wait_for()
    page.get_by_role("link", name="step 200 (+3)").press("Enter")
    page.get_by_text("1 to 3 of 3 steps below step 200").wait_for()
    assert page.get_by_role("link", name="step 203").is_visible()
