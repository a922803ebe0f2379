"""What the browser loads: budgets, vendored files, nothing from another host."""

from __future__ import annotations

import gzip
import hashlib
import re
from typing import TYPE_CHECKING

import pytest
import zstandard

from slipway.web.compression import best_coding
from slipway.web.static_files import FOLDER, OURS, lighten, static_files, static_url

if TYPE_CHECKING:
    from starlette.testclient import TestClient

FIRST_LOAD = 150_000
WITHOUT_FONTS = 30_000
OWN_SCRIPT = 30_000
REQUESTS = 8
FONTS = ("fonts/inter-latin-wght-normal.woff2", "fonts/jetbrains-mono-latin-wght-normal.woff2")
"""What a page in a western language loads; latin-ext comes only when its letters are there."""


def wire_size(pages: TestClient, path: str) -> int:
    answer = pages.get(path, headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
    assert answer.status_code == 200
    return int(answer.headers["content-length"])


def linked(pages: TestClient, path: str) -> list[str]:
    found = set(re.findall(r'(?:href|src)="(/static/[^"#]+)', pages.get(path).text))
    return sorted(name for name in found if "/fonts/" not in name)


def test_the_first_load_is_light(pages: TestClient) -> None:
    size = wire_size(pages, "/") + sum(wire_size(pages, name) for name in linked(pages, "/"))
    assert size <= WITHOUT_FONTS


@pytest.mark.parametrize("path", ["/", "/traces", "/decide", "/watch?since=7d"])
def test_no_page_is_heavy_even_with_nothing_cached(pages: TestClient, path: str) -> None:
    files = linked(pages, path)
    fonts = sum(wire_size(pages, f"/static/{name}") for name in FONTS)
    assert wire_size(pages, path) + sum(wire_size(pages, name) for name in files) + fonts <= FIRST_LOAD
    assert 1 + len(files) + len(FONTS) <= REQUESTS


def test_own_script_is_small() -> None:
    assert (FOLDER / "slip.js").stat().st_size <= OWN_SCRIPT


def test_vendored_files_are_the_named_ones() -> None:
    table = (FOLDER / "VENDORED.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", table, flags=re.MULTILINE))
    own = {"app.css", "tokens.css", "slip.js", "icons.svg"}
    assert set(named) == set(static_files()) - own
    for name, digest in named.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name
    for font in re.findall(r"fonts/OFL-\S+?\.txt", table):
        assert "SIL OPEN FONT LICENSE" in (FOLDER / font).read_text(encoding="utf-8")


def test_nothing_of_ours_names_another_host() -> None:
    for name in ("app.css", "tokens.css", "slip.js", "icons.svg"):
        text = (FOLDER / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.", text), name


def test_colours_are_named_in_one_place() -> None:
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b", (FOLDER / "app.css").read_text(encoding="utf-8"))


def test_every_token_that_is_used_exists() -> None:
    known = set(re.findall(r"(--[\w-]+):", (FOLDER / "tokens.css").read_text(encoding="utf-8")))
    styles = (FOLDER / "app.css").read_text(encoding="utf-8")
    local = set(re.findall(r"(--[\w-]+):", styles))
    assert set(re.findall(r"var\((--[\w-]+)", styles)) <= known | local


def test_a_file_is_kept_while_it_stays_the_same(pages: TestClient) -> None:
    address = static_url("app.css")
    answer = pages.get(address)
    assert "immutable" in answer.headers["cache-control"]
    again = pages.get(address, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "immutable" not in pages.get("/static/app.css?v=old").headers["cache-control"]


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("gzip, zstd", "zstd"), ("gzip", "gzip"), ("", "identity"), ("zstd;q=0, gzip", "gzip"), ("br", "identity")],
)
def test_the_coding_follows_the_browser(accepted: str, coding: str) -> None:
    assert best_coding(accepted) == coding


def test_every_coding_carries_the_same_file() -> None:
    for name, file in static_files().items():
        plain = file.bodies["identity"]
        if name not in OURS:
            assert plain == (FOLDER / name).read_bytes()
        if "gzip" in file.bodies:
            assert gzip.decompress(file.bodies["gzip"]) == plain
            assert zstandard.decompress(file.bodies["zstd"]) == plain


@pytest.mark.parametrize("name", ["../app.py", "nothing.css", "VENDORED.md", "fonts/OFL-inter.txt", "%2e%2e/app.py"])
def test_only_files_of_the_pages_are_served(pages: TestClient, name: str) -> None:
    assert pages.get(f"/static/{name}").status_code == 404


def test_only_comments_and_blanks_are_left_out() -> None:
    for name in OURS:
        words = r"[\w#.-]+"
        sent = re.findall(words, lighten(FOLDER / name).decode())
        source = (FOLDER / name).read_text(encoding="utf-8")
        without = re.sub(r"/\*.*?\*/|^\s*//[^\n]*$", "", source, flags=re.DOTALL | re.MULTILINE)
        assert sent == re.findall(words, without), name
