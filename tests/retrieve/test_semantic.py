"""The semantic chunker inside an application: it cuts where the subject changes, and says what it needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.domain.document import Document
from slipway.domain.errors import ConfigError
from slipway.domain.ids import hash_text
from slipway.embedders.base import Vectors
from slipway.retrieve.index import build_index, make_chunker, remove_index
from slipway.workspace import Workspace, open_workspace

SUBJECTS = ("lamp", "parcel", "holiday")


@dataclass(frozen=True)
class BySubject:
    """One direction for each subject, a little of all for the rest."""

    name: str = "subjects"
    dimensions: int = 3

    @property
    def id(self) -> str:
        return self.name

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = [[1.0 if subject in text else 0.05 for subject in SUBJECTS] for text in texts]
        matrix = numpy.asarray(rows, dtype=numpy.float32).reshape(-1, 3)
        return matrix / numpy.linalg.norm(matrix, axis=1, keepdims=True)


SENTENCES = [
    *(f"The lamp number {place} burns." for place in range(3)),
    *(f"A parcel of {place} kilograms is sent." for place in range(4)),
    *(f"Your holiday has {place} days." for place in range(2)),
]


def document(text: str, id: str = "a.md", format: str = "markdown") -> Document:
    metadata = {"format": format}
    return Document(id=id, title="", text=text, source="", content_hash=hash_text(text), metadata=metadata)


def test_it_cuts_where_the_subject_changes() -> None:
    chunker, _, tokens = make_chunker({"kind": "semantic", "size": 200}, BySubject())
    cut = list(chunker.cut(document(" ".join(SENTENCES)), tokens))
    assert [chunk.text for chunk in cut] == [" ".join(SENTENCES[:3]), " ".join(SENTENCES[3:7]), " ".join(SENTENCES[7:])]


def test_a_heading_stays_with_what_follows_it() -> None:
    chunker, _, tokens = make_chunker({"kind": "semantic", "size": 200}, BySubject())
    text = f"{' '.join(SENTENCES[:3])}\n\n# About it\n\n{' '.join(SENTENCES[3:7])}"
    assert [chunk.text[:10] for chunk in chunker.cut(document(text), tokens)] == ["The lamp n", "# About it"]


def test_without_an_embedder_it_says_what_it_needs(application: Path) -> None:
    path = application / "slipway.toml"
    toml = path.read_text(encoding="utf-8")
    path.write_text(toml.replace("[retrieve]\n", '[retrieve]\nchunker = { kind = "semantic" }\n'), encoding="utf-8")
    done = CliRunner().invoke(app, ["retrieve", "build", "--dir", str(application)])
    assert isinstance(done.exception, ConfigError)
    assert "'semantic' compares sentences by their embeddings, and no embedder is there" in str(done.exception)
    assert "\n" not in str(done.exception)
    with open_workspace(application) as workspace:
        assert workspace.indexes.versions() == []


def test_its_id_names_what_embeds_the_sentences() -> None:
    ids = [make_chunker({"kind": "semantic"}, BySubject(name))[1] for name in ("one", "another")]
    assert ids[0] == "semantic(size=200, overlap=0) in estimate tokens, sentences embedded by one"
    assert ids[0] != ids[1], "another model would cut elsewhere, so nothing is taken from the version before"


def embedded(workspace: Workspace) -> int:
    connection = sqlite3.connect(workspace.state / "embeddings.db")
    try:
        return int(connection.execute("select count(*) from embeddings").fetchone()[0])
    finally:
        connection.close()


def test_what_it_embeds_is_kept_and_goes_with_its_document(application: Path) -> None:
    path = application / "slipway.toml"
    toml = path.read_text(encoding="utf-8")
    path.write_text(toml.replace("[retrieve]\n", '[retrieve]\nchunker = { kind = "semantic" }\n'), encoding="utf-8")
    with open_workspace(application) as opened:
        workspace = replace(opened, embedder=BySubject())
        index = build_index(workspace, documents=[document(" ".join(SENTENCES))])
        assert index.chunks == 3
        assert embedded(workspace) == len(SENTENCES) + index.chunks
        remove_index(workspace, index)
        assert embedded(workspace) == 0


def test_a_real_model_keeps_a_subject_together(with_vectors: Workspace) -> None:
    chunker, _, tokens = make_chunker({"kind": "semantic", "size": 120}, with_vectors.embedder)
    cats = "Cats sleep most of the day. A kitten purrs when it is stroked. Cats wash their fur with the tongue."
    tax = "Value added tax is 19 percent. The tax return is due in July. Tax offices charge interest on late payment."
    cut = list(chunker.cut(document(f"{cats} {tax}", format="text"), tokens))
    assert [chunk.text for chunk in cut] == [cats, tax]
