"""An evaluated release of the tiny application, on the embedded engine."""

import asyncio
from pathlib import Path

import pytest

from slipway.domain.release import Release
from slipway.evaluate.runner import evaluate
from slipway.release.parts import cut_release
from slipway.retrieve.documents import load_documents
from slipway.retrieve.index import build_index
from slipway.workspace import Workspace, open_workspace

SETTINGS = """
[guard]
before = [{ rail = "length", action = "block", max_characters = 2000 }]
after = []

[release]
engine = "repeating"
model = "echo"

[engines.repeating]
kind = "echo"
script = { "return a parcel" = "You can return a parcel within 30 days after delivery. [1]", "dog" = "It is Rex." }

[review]
roles = ["support", "legal"]
sample = 3
"""


@pytest.fixture
def evaluated(application: Path) -> "tuple[Workspace, Release]":
    """One question is answered right, one is made up, two are repeated."""
    path = application / "slipway.toml"
    path.write_text(path.read_text(encoding="utf-8") + SETTINGS, encoding="utf-8")
    workspace = open_workspace(application)
    build_index(workspace, documents=load_documents([application / "documents"]).documents)
    release = cut_release(workspace)
    asyncio.run(evaluate(workspace, release))
    return workspace, release
