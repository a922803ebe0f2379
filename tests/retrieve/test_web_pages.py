"""Documents at web addresses: fetched within limits, followed when they change, and no private ones unasked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.retrieve.index import build_index, load_sources
from slipway.retrieve.query import search_index
from slipway.retrieve.web_pages import Fetched, document_id, fetch_pages, is_public, split_sources
from slipway.upstream.client import Deadlines
from slipway.workspace import open_workspace

PAGE = "<html><head><title>Lamps</title></head><body><main><h1>Lamps</h1><p>{}</p></main></body></html>"


@dataclass
class Site:
    """What a loopback server answers by path: status, headers and body; and what it was asked."""

    origin: str = ""
    host: str = ""
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def put(self, path: str, body: str | bytes, *, kind: str = "text/html", status: int = 200, **headers: str) -> str:
        content = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = (status, {"content-type": kind, **named}, content)
        return f"{self.origin}{path}"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = {name.lower(): value for name, value in self.headers.items()}
            made.asked.append((self.path, asked))
            status, headers, body = made.answers.get(self.path, (404, {}, b""))
            if status == 200 and headers.get("etag") and asked.get("if-none-match") == headers["etag"]:
                status, body = 304, b""
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keeps the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.host = f"127.0.0.1:{server.server_address[1]}"
    made.origin = f"http://{made.host}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(site: Site, url: str, **more: object) -> Fetched:
    given = {"known": {}, "private_hosts": [site.host], "most_bytes": 100_000, **more}
    [page] = fetch_pages([url], **given)  # type: ignore[arg-type]
    return page


def test_a_page_arrives_with_its_kind_and_marks(site: Site) -> None:
    url = site.put("/lamps/", PAGE.format("Five years."), kind="text/html; charset=utf-8", etag='"1"')
    page = fetch(site, url)
    assert (page.state, page.suffix, page.marks) == ("new", ".html", {"etag": '"1"'})
    assert page.id == f"{site.host}/lamps"
    assert b"Five years." in page.content


KINDS = [
    pytest.param("/a", "text/plain", ".txt", id="text"),
    pytest.param("/a.md", "text/plain", ".md", id="Markdown sent as text"),
    pytest.param("/a.pdf", "application/octet-stream", ".pdf", id="a kind that tells nothing"),
    pytest.param("/a.pdf", "text/html", ".html", id="what is sent counts, not the name"),
]


@pytest.mark.parametrize(("path", "kind", "suffix"), KINDS)
def test_the_kind_is_that_of_the_answer(site: Site, path: str, kind: str, suffix: str) -> None:
    assert fetch(site, site.put(path, "words", kind=kind)).suffix == suffix


def test_other_encodings_become_utf_8(site: Site) -> None:
    url = site.put("/a", "Größe".encode("latin-1"), kind="text/plain; charset=ISO-8859-1")
    assert fetch(site, url).content.decode() == "Größe"


WRONG = [
    pytest.param({"kind": "image/png"}, "gone", "type image/png is not read", id="no text"),
    pytest.param({"body": "x" * 100_001}, "gone", "more than 0 MB", id="too large"),
    pytest.param({"status": 404}, "gone", "status 404", id="not there"),
    pytest.param({"status": 503}, "failed", "status 503", id="a server in trouble"),
    pytest.param({"content_encoding": "gzip"}, "gone", "coding 'gzip'", id="packed unasked"),
    pytest.param({"status": 302, "location": "/loop"}, "gone", "redirects more than 5 times", id="a loop"),
    pytest.param({"status": 302, "location": "file:///etc/passwd"}, "gone", "no web address", id="to a file"),
    pytest.param({"status": 302, "location": ""}, "gone", "redirects more than 5 times", id="to itself"),
    pytest.param(
        {"status": 302, "location": "http://127.0.0.2:1/"},
        "gone",
        "private network (127.0.0.2)",
        id="to a private host",
    ),
]


@pytest.mark.parametrize(("answer", "state", "reason"), WRONG)
def test_what_cannot_be_taken_says_why(site: Site, answer: dict[str, object], state: str, reason: str) -> None:
    url = site.put("/loop", **{"body": "x", **answer})  # type: ignore[arg-type]
    page = fetch(site, url)
    assert page.state == state
    assert reason in page.reason
    assert "\n" not in page.reason


def test_a_redirect_is_followed_and_the_document_keeps_its_address(site: Site) -> None:
    site.put("/new", PAGE.format("Moved here."))
    page = fetch(site, site.put("/old", "", status=301, location="/new"))
    assert (page.state, page.id) == ("new", f"{site.host}/old")
    assert b"Moved here." in page.content


def test_a_private_address_is_asked_only_where_it_is_named(site: Site) -> None:
    url = site.put("/", PAGE.format("Secret."))
    refused = fetch(site, url, private_hosts=[])
    assert refused.state == "gone"
    assert f'private_hosts = ["{site.host}"]' in refused.reason
    assert fetch(site, url, private_hosts=["127.0.0.1:1"]).state == "gone", "another port is another host"
    assert site.asked == []
    assert fetch(site, url, private_hosts=["127.0.0.1"]).state == "new"


def test_a_public_name_that_points_inside_is_refused(site: Site) -> None:
    port = site.host.partition(":")[2]
    site.put("/", PAGE.format("Secret."))

    async def inside(host: str, port: int) -> list[str]:
        return ["93.184.215.14", "127.0.0.1"]

    page = fetch(site, f"http://example.com:{port}/", resolve=inside)
    assert "'example.com' lies in a private network (127.0.0.1)" in page.reason
    assert site.asked == []


def test_the_address_that_was_checked_is_the_one_that_is_asked(site: Site) -> None:
    port = site.host.partition(":")[2]
    site.put("/", PAGE.format("Found."))
    looked_up: list[str] = []

    async def once(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    page = fetch(site, f"http://wiki.invalid:{port}/", private_hosts=["wiki.invalid"], resolve=once)
    assert page.state == "new", page.reason
    assert looked_up == ["wiki.invalid"]
    assert site.asked[0][1]["host"] == f"wiki.invalid:{port}"


def test_letters_of_any_language_may_stand_in_an_address(site: Site) -> None:
    site.put("/Gr%C3%B6%C3%9Fe?q=%C3%A4", PAGE.format("Found."))
    assert fetch(site, f"{site.origin}/Größe?q=ä#part").state == "new"
    assert fetch(site, f"{site.origin}/Gr%C3%B6%C3%9Fe?q=%C3%A4").state == "new", "what is written out stays as it is"


def test_credentials_in_an_address_are_refused(site: Site) -> None:
    assert "name or password" in fetch(site, f"http://me:secret@{site.host}/").reason
    assert site.asked == []


def test_a_server_that_hangs_fails_alone() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        short = Deadlines(connect_s=5, first_byte_s=0.2, idle_s=0.2, total_s=5)
        [page] = fetch_pages([f"http://{host}/"], known={}, private_hosts=[host], most_bytes=10, deadlines=short)
    assert page.state == "failed"
    assert "first byte" in page.reason


PRIVATE = [
    "127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "fd00::1",
    "fe80::1%eth0", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_told(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_told(address: str) -> None:
    assert is_public(address)


def test_a_file_of_addresses_is_a_list_of_documents(tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text("# our pages\nhttps://a.example/x\n\nhttps://a.example/y\nhttps://a.example/x\n")
    (tmp_path / "notes.txt").write_text("See https://a.example/x for more.\n")
    (tmp_path / "empty.txt").write_text("")
    paths, urls = split_sources(tmp_path, ["urls.txt", "notes.txt", "empty.txt", "docs", "https://a.example/z"])
    assert urls == ["https://a.example/x", "https://a.example/y", "https://a.example/z"]
    assert paths == [tmp_path / "notes.txt", tmp_path / "empty.txt", tmp_path / "docs"]
    assert document_id("https://A.example/guide/?page=2#part") == "a.example/guide?page=2"


@pytest.fixture
def online(application: Path, site: Site) -> Path:
    """The application with two pages of the site beside its folder."""
    site.put("/lamps", PAGE.format("Solar lamps are charged by daylight."), etag='"1"')
    site.put("/cables.md", "# Cables\n\nCables are two metres long.", kind="text/markdown")
    (application / "urls.txt").write_text(f"{site.origin}/lamps\n{site.origin}/cables.md\n")
    path = application / "slipway.toml"
    toml = path.read_text(encoding="utf-8")
    toml = toml.replace("[retrieve]\n", f'[retrieve]\nprivate_hosts = ["{site.host}"]\n')
    path.write_text(
        toml.replace('documents = ["documents"]', 'documents = ["documents", "urls.txt"]'), encoding="utf-8"
    )
    return application


def test_pages_are_indexed_followed_and_kept_through_an_outage(online: Path, site: Site) -> None:
    with open_workspace(online) as workspace:
        first = build_index(workspace)
        found = search_index(workspace, first, "How are solar lamps charged?")
        assert (found[0].document, found[0].title) == (f"{site.host}/lamps", "Lamps")
        assert build_index(workspace) == first, "nothing changed"
        assert site.asked[-1][1].get("if-none-match") or site.asked[-2][1].get("if-none-match")

        site.put("/lamps", PAGE.format("Solar lamps are charged by moonlight."), etag='"2"')
        second = build_index(workspace)
        assert second.version == 2
        assert "moonlight" in search_index(workspace, second, "How are solar lamps charged?")[0].text

        site.put("/lamps", "", status=500)
        loaded = load_sources(workspace)
        assert [item.reason for item in loaded.unreadable] == [
            "the server answers with status 500; the text of the last build stays"
        ]
        assert build_index(workspace) == second

        del site.answers["/lamps"]
        third = build_index(workspace)
        assert f"{site.host}/lamps" not in [entry.id for entry in third.documents]


def test_an_address_can_be_named_on_the_command_line(online: Path, site: Site) -> None:
    command = ["retrieve", "build", "site", "--documents", f"{site.origin}/lamps", "--documents", f"{site.origin}/no"]
    done = CliRunner().invoke(app, [*command, "--dir", str(online), "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)
    assert (told["index"], told["documents"]) == ("site@1", 1)
    assert told["unreadable"] == [{"source": f"{site.origin}/no", "reason": "the server answers with status 404"}]


async def test_pages_are_fetched_inside_an_event_loop_too(online: Path) -> None:
    with open_workspace(online) as workspace:
        assert len(load_sources(workspace).documents) == 5
