"""What every reranker promises: a score from 0 to 1 for each passage in order, pinned settings, a bounded depth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from slipway.config.reader import load_settings
from slipway.retrieve.rerankers.base import Reranker, rerankers
from slipway.workspace import Workspace, open_workspace

MADE_WITH: Mapping[str, Mapping[str, Any]] = {"engine": {"engine": "judge", "model": "m"}}
"""Settings that a reranker cannot do without."""
NEEDS_A_MODEL = {"cross_encoder"}
"""Checked against the formulas in tests/retrieve/test_cross_encoder.py, with a model of random numbers."""
TEXTS = ["Express shipping costs 12 euros.", "A lamp has a warranty of five years.", ""]


@pytest.fixture(params=sorted(set(rerankers.names()) - NEEDS_A_MODEL))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def judged(application: Path) -> Workspace:
    path = application / "slipway.toml"
    reply = json.dumps("1: 9\n2: 1\n3: 0")
    path.write_text(f'{path.read_text(encoding="utf-8")}\n[engines.judge]\nkind = "echo"\nreply = {reply}\n')
    return open_workspace(application, settings=load_settings(application))


def make(kind: str, workspace: Workspace) -> Reranker:
    """As an index version pins it."""
    return rerankers.make(kind, rerankers.make(kind, MADE_WITH.get(kind, {})).pin(workspace))


def test_each_passage_gets_a_score_in_its_place(kind: str, judged: Workspace) -> None:
    with judged as workspace:
        scored = asyncio.run(make(kind, workspace).score("What does it cost?", TEXTS, workspace=workspace))
    assert len(scored.scores) == len(TEXTS)
    assert all(0 <= score <= 1 for score in scored.scores)
    assert scored.scores[0] == max(scored.scores) > scored.scores[1]
    assert scored.failed == ""


def test_no_passage_costs_nothing(kind: str, judged: Workspace) -> None:
    with judged as workspace:
        scored = asyncio.run(make(kind, workspace).score("What does it cost?", [], workspace=workspace))
    assert (scored.scores, scored.spent.usage.total_tokens, scored.spent.cost.micros) == ((), 0, 0)


def test_what_is_pinned_makes_the_same_reranker(kind: str, judged: Workspace) -> None:
    with judged as workspace:
        reranker = make(kind, workspace)
        assert rerankers.make(kind, reranker.pin(workspace)) == reranker
        assert json.loads(json.dumps(reranker.pin(workspace))) == reranker.pin(workspace)
    assert 2 <= reranker.depth <= 100


def test_its_first_line_says_what_it_does(kind: str) -> None:
    assert rerankers.help(kind).endswith((".", "?"))
