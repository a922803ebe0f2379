"""Loading: every file ends as a document, a duplicate or a named failure, and a crafted one fails alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from slipway.domain.errors import FileMissing
from slipway.domain.ids import hash_bytes
from slipway.retrieve.confinement import Confinement
from slipway.retrieve.documents import Loaded, load_documents
from slipway.retrieve.parsers.base import Parsed, Unparsable


def put(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def reasons(loaded: Loaded) -> dict[str, str]:
    return {Path(item.source).name: item.reason for item in loaded.unreadable}


def test_documents_are_named_by_their_path_and_ordered(tmp_path: Path) -> None:
    put(tmp_path, {"b.md": "# Bee\n\nText.", "a/c.txt": "See", ".hidden.md": "no", ".git/x.md": "no"})
    loaded = load_documents([tmp_path])
    assert [document.id for document in loaded.documents] == ["b.md", "a/c.txt"]
    assert [document.title for document in loaded.documents] == ["Bee", "C"]
    assert loaded.unreadable == []


def test_the_text_of_a_markdown_file_is_the_file(tmp_path: Path) -> None:
    content = "---\ntitle: T\nsubject: person-7\n---\n# Head\n\n  Räder  \n"
    put(tmp_path, {"a.md": content})
    [document] = load_documents([tmp_path]).documents
    assert document.text == content
    assert (document.title, document.subject) == ("T", "person-7")


FAILURES = {
    "empty.md": (b"", "it is empty"),
    "space.txt": (b" \n\n", "it holds no text"),
    "picture.png": (b"\x89PNG\r\n", "files of type .png are not read"),
    "binary.txt": (b"\x00\x01\x02", "it is not text"),
    "broken.pdf": (b"%PDF-1.4 broken", "it is no valid PDF"),
    "broken.docx": (b"PK\x03\x04", "it is no valid Word document"),
    "huge.txt": (b"a" * 2_000_001, "it has 2 MB; at most 2 MB are read. Split it"),
}


def test_every_bad_file_is_named_and_the_good_ones_are_in(tmp_path: Path) -> None:
    good = {f"good{number}.md": f"# Page {number}\n\nText {number}." for number in range(20)}
    put(tmp_path, {**good, **{name: content for name, (content, _) in FAILURES.items()}})
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere.md")
    loaded = load_documents([tmp_path], most_bytes=2_000_000)
    assert len(loaded.documents) == 20
    for name, (_, reason) in FAILURES.items():
        assert reasons(loaded)[name].startswith(reason)
    assert "does not let it be read" in reasons(loaded)["gone.md"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a thing of Unix")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    assert reasons(load_documents([tmp_path])) == {"pipe.md": "it is no regular file"}


def test_the_same_text_twice_is_stored_once(tmp_path: Path) -> None:
    put(tmp_path, {"a.md": "same", "b/copy.md": "same"})
    loaded = load_documents([tmp_path])
    assert [document.id for document in loaded.documents] == ["a.md"]
    assert [(Path(one.source).name, one.document) for one in loaded.duplicates] == [("copy.md", "a.md")]


def test_files_of_the_same_name_in_two_folders_keep_apart(tmp_path: Path) -> None:
    put(tmp_path, {"one/a.md": "first", "two/a.md": "second"})
    loaded = load_documents([tmp_path / "one", tmp_path / "two"])
    assert [document.id for document in loaded.documents] == ["a.md", "two1/a.md"]


def test_a_file_that_two_paths_lead_to_is_read_once(tmp_path: Path) -> None:
    put(tmp_path, {"docs/a.md": "text"})
    loaded = load_documents([tmp_path / "docs", tmp_path / "docs" / "a.md"])
    assert [document.id for document in loaded.documents] == ["a.md"]
    assert loaded.duplicates == []


def test_a_link_brings_in_nothing_that_nobody_named(tmp_path: Path) -> None:
    put(tmp_path / "private", {"keys.txt": "the password"})
    put(tmp_path / "documents", {"a.md": "# A\n\nText."})
    (tmp_path / "documents" / "keys.txt").symlink_to(tmp_path / "private" / "keys.txt")
    (tmp_path / "documents" / "same.md").symlink_to("a.md")
    loaded = load_documents([tmp_path / "documents"])
    assert [document.id for document in loaded.documents] == ["a.md"]
    assert "outside of the folder" in reasons(loaded)["keys.txt"]
    both = load_documents([tmp_path / "documents", tmp_path / "private"])
    assert sorted(document.text for document in both.documents) == ["# A\n\nText.", "the password"]
    assert both.unreadable == []
    (tmp_path / "link").symlink_to("documents")
    assert [document.id for document in load_documents([tmp_path / "link"]).documents] == ["a.md"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_hides_no_front_matter(tmp_path: Path, encoding: str) -> None:
    put(tmp_path, {"a.md": "---\ntitle: Räder\n---\n# Head\n\nText.\n".encode(encoding)})
    (document,) = load_documents([tmp_path]).documents
    assert document.title == "Räder"


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="--documents"):
        load_documents([tmp_path / "nowhere"])


def test_a_known_file_is_not_parsed_again(tmp_path: Path) -> None:
    put(tmp_path, {"a.html": "<title>T</title><p>Words</p>"})
    [before] = load_documents([tmp_path]).documents
    (tmp_path / "a.html").rename(tmp_path / "moved.html")
    known = {hash_bytes((tmp_path / "moved.html").read_bytes()): before}

    class Forbidden(Confinement):
        def parse(self, parser: str, content: bytes) -> None:  # type: ignore[override]
            raise AssertionError("it was parsed again")

    [after] = load_documents([tmp_path], known=known, confinement=Forbidden()).documents
    assert (after.id, after.text, after.title) == ("moved.html", before.text, before.title)


def test_progress_counts_files(tmp_path: Path) -> None:
    put(tmp_path, {"a.md": "x", "b.png": b"x"})
    told: list[tuple[int, int]] = []
    load_documents([tmp_path], on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_a_file_that_takes_too_long_is_stopped_and_the_next_one_is_read(tmp_path: Path) -> None:
    put(tmp_path, {"a-bomb.html": b"<div>" * 400_000 + b"deep", "b.html": "<p>Good words</p>"})
    loaded = load_documents([tmp_path], confinement=Confinement(seconds=3))
    assert reasons(loaded) == {"a-bomb.html": "reading it took longer than 3 s"}
    assert [document.text for document in loaded.documents] == ["Good words\n"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its memory limit")
def test_a_file_that_fills_memory_fails_alone(tmp_path: Path) -> None:
    with Confinement(seconds=30, memory_mb=300) as child:
        with pytest.raises(Unparsable, match=r"300 MB|its reader failed"):
            child.parse("html", b"<p>" + b"word " * 20_000_000)
        assert child.parse("html", b"<p>after").text == "after\n"


def test_a_large_text_is_read_in_the_child_and_fails_alone(tmp_path: Path) -> None:
    class Small(Confinement):
        """Takes part in the real thing, and notes what was sent to it."""

        sent: ClassVar[list[str]] = []

        def parse(self, parser: str, content: bytes) -> Parsed:
            self.sent.append(parser)
            return super().parse(parser, content)

    line = "A line about lamps, one of many.\n"
    (tmp_path / "large.md").write_text("# Large\n\n" + line * 40_000)
    (tmp_path / "huge.csv").write_text("a,b\n" + line * 1_500_000)
    (tmp_path / "small.md").write_text("# Small\n\nA lamp.")
    loaded = load_documents([tmp_path], confinement=Small(memory_mb=160))
    assert Small.sent == ["csv", "markdown"]
    assert [document.id for document in loaded.documents] == ["large.md", "small.md"]
    assert loaded.documents[0].text == (tmp_path / "large.md").read_text()
    assert loaded.documents[0].title == "Large"
    [wrong] = loaded.unreadable
    assert wrong.source.endswith("huge.csv")
    assert "more than 160 MB of memory" in wrong.reason
