"""What the keyboard and the script do: the review queue, search, lists, sliders, live parts, the streamed answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from slipway.domain.review import Review
from slipway.release.parts import load_release
from slipway.review.queue import list_items, queue_answers

from ..seed import add_traffic
from .conftest import Watched

if TYPE_CHECKING:
    from slipway.workspace import Workspace


def test_the_review_queue_is_worked_with_the_keyboard(tab: Watched, week: Workspace) -> None:
    release = load_release(week, "lamps@2")
    queue_answers(week, release, limit=8)
    waiting = list_items(week, release, reviewer="kay")
    page = tab.open("/review?release=2&reviewer=kay&background=support")
    heading = page.locator("slip-queue h2")
    expect(heading).to_have_text(waiting[0].question)
    page.keyboard.press("j")
    expect(heading).to_have_text(waiting[1].question)
    page.keyboard.press("k")
    expect(heading).to_have_text(waiting[0].question)
    page.keyboard.press("n")
    page.keyboard.type("4 of 5 sentences hold")
    page.keyboard.press("Escape")
    page.keyboard.press("4")
    expect(heading).to_have_text(waiting[1].question)
    mine = [review for review in week.store.records.list(Review) if review.reviewer == "kay"]
    assert [(review.item, review.rating, review.note) for review in mine] == [
        (waiting[0].id, 4, "4 of 5 sentences hold")
    ]
    page.keyboard.press("u")
    expect(heading).to_have_text(waiting[0].question)
    assert [review for review in week.store.records.list(Review) if review.reviewer == "kay"] == []
    assert tab.errors == []


def test_search_opens_with_ctrl_k_and_leads_to_a_release(tab: Watched) -> None:
    page = tab.open("/traces")
    page.keyboard.press("Control+k")
    page.keyboard.type("lamps@1")
    found = page.locator("#found a").first
    expect(found).to_contain_text("lamps@1")
    page.keyboard.press("ArrowDown")
    expect(found).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/release/1$"))
    assert tab.errors == []


def test_question_mark_lists_the_keys_and_escape_closes(tab: Watched) -> None:
    page = tab.open("/")
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Keys")).to_be_hidden()


def test_j_and_k_walk_the_list_and_enter_opens(tab: Watched) -> None:
    page = tab.open("/traces")
    rows = page.locator("td a.open")
    page.keyboard.press("j")
    expect(rows.nth(0)).to_be_focused()
    page.keyboard.press("j")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("k")
    expect(rows.nth(0)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/traces/[0-9a-f]{32}$"))


def test_the_list_follows_the_search_as_one_types(tab: Watched) -> None:
    page = tab.open("/traces")
    page.get_by_role("searchbox", name="Search questions").fill("warranty")
    expect(page.locator("#list td a.open").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"q=warranty"))
    expect(page.locator("#list .clip", has_text="gift card")).to_have_count(0)
    page.go_back()
    expect(page.locator("h1")).to_have_text("Traces")
    assert tab.errors == []


def test_a_span_is_chosen_without_leaving_the_trace(tab: Watched) -> None:
    page = tab.open("/traces?q=express")
    page.locator("td a.open").first.click()
    page.locator(".waterfall a", has_text="retrieval").click()
    expect(page.locator(".waterfall a[aria-current]")).to_contain_text("retrieval")
    expect(page).to_have_url(re.compile(r"span="))


def test_a_slider_redraws_the_curve(tab: Watched) -> None:
    page = tab.open("/decide")
    before = page.locator("#decision .verdict").inner_text()
    slider = page.locator("slip-range input[name=requests_per_day]")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    expect(page.locator("#decision .verdict")).not_to_have_text(before)
    expect(page).to_have_url(re.compile(r"requests_per_day="))
    assert tab.errors == []


def test_a_chart_tells_its_values_under_the_pointer(tab: Watched) -> None:
    page = tab.open("/watch?since=7d")
    chart = page.locator("slip-chart svg").first
    chart.hover()
    expect(page.locator(".tip").first).to_be_visible()
    assert re.search(r"requests \d", page.locator(".tip").first.inner_text())


def test_new_traffic_appears_by_itself(tab: Watched, week: Workspace) -> None:
    page = tab.open("/traces")
    count = page.locator("#sums .figure .value").first
    before = int(count.inner_text().replace(",", ""))
    page.wait_for_timeout(1200)
    add_traffic(week, load_release(week, "lamps@2"), count=3, hours=0.001)
    expect(count).to_have_text(f"{before + 3:,}")
    assert tab.errors == []


def test_an_answer_arrives_word_by_word_with_its_sources(tab: Watched) -> None:
    page = tab.open("/release/2")
    page.get_by_role("textbox", name="Question").fill("What does express shipping cost?")
    page.get_by_role("button", name="Ask", exact=True).click()
    answer = page.locator("[data-answer]")
    expect(answer).to_contain_text("12 euros")
    expect(answer).to_contain_text("shipping.md")
    assert tab.errors == []


def test_the_theme_changes_at_once_and_stays(tab: Watched) -> None:
    page = tab.open("/")
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == "rgb(12, 18, 23)"
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_the_menu_folds_on_a_narrow_page(tab: Watched) -> None:
    tab.page.set_viewport_size({"width": 390, "height": 800})
    page = tab.open("/")
    entry = page.get_by_role("link", name="Retrieve", exact=True)
    expect(entry).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    expect(entry).to_be_visible()
    page.keyboard.press("Escape")
    expect(entry).to_be_hidden()


def test_a_command_is_copied(tab: Watched) -> None:
    page = tab.open("/")
    page.get_by_role("button", name=re.compile("^Copy http")).click()
    expect(page.get_by_text("Copied")).to_have_count(1)
    assert page.evaluate("navigator.clipboard.readText()").endswith("/v1")


def test_what_cannot_be_taken_back_asks_once(tab: Watched) -> None:
    page = tab.open("/privacy?subject=p-2")
    page.get_by_role("button", name="Erase p-2").click()
    asked = page.get_by_role("dialog", name="Erase p-2?")
    expect(asked).to_be_visible()
    expect(asked.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(asked).to_be_hidden()


def test_the_focus_is_seen(tab: Watched) -> None:
    page = tab.open("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_visible()
    page.keyboard.press("Tab")
    width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert width == "2px"


def test_a_page_works_at_360_px_and_at_double_size(tab: Watched) -> None:
    for width, zoom in ((360, 1), (640, 2)):
        tab.page.set_viewport_size({"width": width // zoom if zoom > 1 else width, "height": 700})
        for path in ("/", "/traces", "/release/2", "/decide"):
            page = tab.open(path)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, width)
