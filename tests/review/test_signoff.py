"""Roles sign, unknown ones cannot, and dissent stays on record."""

import pytest

from slipway.domain.errors import ReviewInvalid, RoleUnknown
from slipway.domain.release import Release
from slipway.release.evidence import list_signoffs
from slipway.release.gate import gate_release
from slipway.review.signoff import dissent, sign
from slipway.workspace import Workspace

Evaluated = tuple[Workspace, Release]


def states(workspace: Workspace, release: Release) -> dict[str, str]:
    return {check.name: check.state for check in gate_release(workspace, release).checks}


def test_the_gate_asks_for_each_role_and_hears_the_newest_word(evaluated: Evaluated) -> None:
    workspace, release = evaluated
    assert states(workspace, release)["sign-off legal"] == "unsigned"
    sign(workspace, release, role="support", person="Ada")
    sign(workspace, release, role="legal", person="Ben", approve=False, note="The warranty is wrong.")
    assert states(workspace, release)["sign-off support"] == "passed"
    assert states(workspace, release)["sign-off legal"] == "failed"
    sign(workspace, release, role="legal", person="Cleo", note="corrected by hand")
    assert states(workspace, release)["sign-off legal"] == "passed"


def test_dissent_is_kept_beside_the_later_approval(evaluated: Evaluated) -> None:
    workspace, release = evaluated
    rejected = sign(workspace, release, role="legal", person="Ben", approve=False, note="The warranty is wrong.")
    assert dissent(workspace, release) == [], "a standing rejection is no overruled one"
    sign(workspace, release, role="support", person="Ada")
    sign(workspace, release, role="legal", person="Cleo")
    assert dissent(workspace, release) == [rejected]
    assert [word.decision for word in list_signoffs(workspace, release)] == ["approve", "approve", "reject"]


def test_an_unknown_role_is_named_with_the_known_ones(evaluated: Evaluated) -> None:
    workspace, release = evaluated
    with pytest.raises(RoleUnknown, match="Did you mean 'legal'") as caught:
        sign(workspace, release, role="legl", person="Ben")
    assert caught.value.exit_code == 2
    assert list_signoffs(workspace, release) == []


def test_a_rejection_says_why_and_everybody_has_a_name(evaluated: Evaluated) -> None:
    workspace, release = evaluated
    with pytest.raises(ReviewInvalid, match="--note"):
        sign(workspace, release, role="legal", person="Ben", approve=False)
    with pytest.raises(ReviewInvalid, match="--person"):
        sign(workspace, release, role="legal", person=" ")
