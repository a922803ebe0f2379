"""Every screen in both themes at 1280 and 390 px: axe, console, hosts, no sideways scroll."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from slipway.web.app import page_paths

from .conftest import Watched

NOT_SCREENS = ("/decide/memo",)
MORE = (
    "/prompt/answer",
    "/release/2",
    "/release/2/compare/1",
    "/deploy?target=compose",
    "/watch?since=7d&part=quality",
    "/traces?status=error",
    "/traces?q=nothing-like-this",
    "/retrieve?q=express+shipping",
    "/retrieve/document/shipping.md?start=11&end=60",
    "/search?q=lamps",
    "/release/99",
    "/decide/memo",
)
SCREENS = [*(path for path in page_paths() if path not in NOT_SCREENS), *MORE]
PICTURES = os.environ.get("SLIPWAY_PICTURES", "")
"""Folder for a picture of every screen, to look at."""


@pytest.mark.parametrize("path", SCREENS)
def test_a_screen_is_sound(screen: Watched, path: str, request: pytest.FixtureRequest) -> None:
    page = screen.open(path)
    assert screen.violations() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth"), "it scrolls sideways"
    expected = ["404"] if path == "/release/99" else []
    assert [error for error in screen.errors if not any(code in error for code in expected)] == []
    assert screen.foreign == []
    if PICTURES:
        name = re.sub(r"[/?&]", "-", path.strip("/")) or "overview"
        name += f"-{request.node.callspec.params['screen']}"
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)
