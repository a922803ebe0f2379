"""Reports: one file each, nothing from outside, no script, the figures that must be there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from slipway.decide.decision import latest_decision
from slipway.decide.memo import memo
from slipway.evaluate.report import make_scorecard
from slipway.release.card import system_card
from slipway.release.parts import load_release
from slipway.web.drawings import cost_chart
from slipway.web.report import render_report

from .html import Page

if TYPE_CHECKING:
    from slipway.workspace import Workspace

WANTED = {
    "decision": ["Build, buy or open weights", "The roads", "For engineers", "Assumptions", "Monthly cost by traffic"],
    "scorecard": ["Scorecard of lamps@2", "Quality", "Are the answers right?", "95 % interval"],
    "card": ["System card of lamps@2", "Evidence", "Known weaknesses", "Gate", "Sign-offs", "How to use it well"],
}


def make(name: str, workspace: Workspace) -> str:
    release = load_release(workspace, "lamps@2")
    match name:
        case "decision":
            record = latest_decision(workspace)
            return render_report("reports/decision.html", memo=memo(record), record=record)
        case "scorecard":
            return render_report("reports/scorecard.html", scorecard=make_scorecard(workspace, release))
        case _:
            return render_report("reports/card.html", card=system_card(workspace, release))


@pytest.mark.parametrize("name", WANTED)
def test_a_report_stands_alone(name: str, seeded: Workspace) -> None:
    html = make(name, seeded)
    page = Page(html)
    assert [problem for problem in page.problems if problem != "inline style element"] == []
    for words in WANTED[name]:
        assert words in page.text
    assert not re.search(r"<script|<link|<button|<form|<input|@font-face|/static/", html)
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", html)
    assert "@page" in html, "it prints on A4"


def test_roads_whose_break_even_is_marked_are_drawn(seeded: Workspace) -> None:
    record = latest_decision(seeded)
    drawn = {series.name for series in cost_chart(record).series}
    assert record.breakevens
    for even in record.breakevens[:2]:
        assert {even.cheaper_below, even.cheaper_above} <= drawn
    assert record.recommended in drawn


@pytest.mark.parametrize("path", ["/decide/memo", "/evaluate/scorecard/2", "/release/2/card"])
def test_a_report_on_a_page_may_load_nothing(pages: TestClient, path: str) -> None:
    answer = pages.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_what_people_wrote_is_text_in_a_report_too(seeded: Workspace) -> None:
    for name in WANTED:
        assert "<script>alert" not in make(name, seeded)
