"""Parts make a release: the same ones the same release, others the next; channels let them out and take them back."""

from pathlib import Path

import pytest

from slipway.domain.errors import Conflict, GateClosed, NotFound, UnknownBackend
from slipway.domain.index import Index
from slipway.domain.release import Channel, Release
from slipway.release.channels import (
    list_channels,
    load_channel,
    promote,
    retire,
    roll_back,
    shadow,
    split,
)
from slipway.release.parts import cut_plain_release, cut_release, list_releases, load_release
from slipway.retrieve.index import build_index
from slipway.workspace import Workspace, open_workspace
from tests.release.conftest import Cut

OPEN_GATE = "\n[evaluate]\nsuites = []\n"


def edit_prompt(application: Path) -> None:
    prompt = application / "prompts" / "answer.md"
    text = prompt.read_text(encoding="utf-8")
    assert "four plain sentences" in text
    prompt.write_text(text.replace("four plain sentences", "three plain sentences"), encoding="utf-8")


def edit_document(application: Path) -> None:
    with (application / "documents" / "returns.md").open("a", encoding="utf-8") as file:
        file.write("\n## Gifts\n\nGifts can be exchanged within 60 days.\n")


def edit_settings(application: Path) -> None:
    with (application / "slipway.toml").open("a", encoding="utf-8") as file:
        file.write("\n[release]\nmax_tokens = 77\n")


def edit_rails(application: Path) -> None:
    with (application / "slipway.toml").open("a", encoding="utf-8") as file:
        file.write('\n[guard]\nbefore = [{ rail = "length", action = "block", max_characters = 100 }]\n')


def test_the_same_parts_are_the_same_release(cut: Cut, application: Path) -> None:
    workspace, release = cut()
    assert cut_release(workspace) == release
    with open_workspace(application) as again:
        build_index(again)
        assert cut_release(again, note="another note is not another part") == release
        assert [one.label for one in list_releases(again)] == ["lamps@1"]


@pytest.mark.parametrize("edit", [edit_prompt, edit_document, edit_settings, edit_rails])
def test_another_part_is_the_next_release(cut: Cut, application: Path, edit: object) -> None:
    _, release = cut()
    assert callable(edit)
    edit(application)
    with open_workspace(application) as workspace:
        build_index(workspace)
        new = cut_release(workspace)
        assert new.id != release.id
        assert new.label == "lamps@2"
        assert [one.label for one in list_releases(workspace)] == ["lamps@2", "lamps@1"]
        assert load_release(workspace, release.id) == release, "the old one stands as it was"


def test_parts_that_come_back_are_the_old_release(cut: Cut, application: Path) -> None:
    _, release = cut()
    prompt = application / "prompts" / "answer.md"
    before = prompt.read_text(encoding="utf-8")
    edit_prompt(application)
    with open_workspace(application) as workspace:
        assert cut_release(workspace).label == "lamps@2"
        prompt.write_text(before, encoding="utf-8")
        assert cut_release(workspace) == release


def test_without_an_index_no_release_is_cut_and_the_next_step_is_named(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="slipway retrieve build"):
        cut_release(workspace)
    assert list_releases(workspace) == []


def test_an_unknown_engine_cuts_nothing(application: Path) -> None:
    with (application / "slipway.toml").open("a", encoding="utf-8") as file:
        file.write('\n[release]\nengine = "extractiv"\n')
    with open_workspace(application) as workspace:
        build_index(workspace)
        with pytest.raises((NotFound, UnknownBackend), match="Did you mean 'extractive'"):
            cut_release(workspace)
        assert list_releases(workspace) == []


@pytest.mark.parametrize(
    "name", ["", "lamps@1", "lamps", "canary"], ids=["newest", "label", "own channel", "other channel"]
)
def test_a_release_is_found_by_name(cut: Cut, name: str) -> None:
    workspace, release = cut(OPEN_GATE)
    promote(workspace, release)
    promote(workspace, release, "canary")
    assert load_release(workspace, name) == release


def test_a_release_is_found_by_the_beginning_of_its_id(cut: Cut) -> None:
    workspace, release = cut()
    assert load_release(workspace, release.id) == release
    assert load_release(workspace, release.id[:6]) == release
    with pytest.raises(NotFound):
        load_release(workspace, release.id[:5])


def test_a_wrong_name_is_answered_with_the_right_one(cut: Cut, application: Path) -> None:
    workspace, _ = cut()
    with pytest.raises(NotFound, match=r"There is no release 'lamp@1'\. Did you mean 'lamps@1'\?"):
        load_release(workspace, "lamp@1")


def test_a_channel_means_the_release_with_its_largest_share(cut: Cut) -> None:
    workspace, first = cut(OPEN_GATE)
    second = cut_plain_release(workspace, engine="echo", model="echo")
    split(workspace, "lamps", [(first, 0.3), (second, 0.7)])
    assert load_release(workspace, "lamps") == second


def test_a_closed_gate_lets_nothing_out(cut: Cut) -> None:
    workspace, release = cut()
    with pytest.raises(GateClosed) as closed:
        promote(workspace, release)
    assert closed.value.exit_code == 3
    assert "quality" in str(closed.value)
    assert list_channels(workspace) == []
    assert workspace.store.records.state(Release, release.id) == "candidate"
    with pytest.raises(GateClosed):
        split(workspace, "lamps", [(release, 1)])
    assert list_channels(workspace) == []


def test_a_forced_promotion_is_recorded_as_forced(cut: Cut) -> None:
    workspace, release = cut()
    assert promote(workspace, release, force=True).changed_by == "(forced)"
    assert load_channel(workspace, "lamps").changed_by == "(forced)"
    assert workspace.store.records.state(Release, release.id) == "live"


def test_a_forced_promotion_says_so_even_where_somebody_gave_a_name(cut: Cut) -> None:
    workspace, release = cut()
    assert promote(workspace, release, force=True, by="anna").changed_by == "anna (forced)"


def test_force_through_an_open_gate_forces_nothing(cut: Cut) -> None:
    workspace, release = cut(OPEN_GATE)
    assert promote(workspace, release, force=True).changed_by == ""


def test_rolling_back_returns_to_what_was_served(cut: Cut) -> None:
    workspace, first = cut(OPEN_GATE)
    second = cut_plain_release(workspace, engine="echo", model="echo")
    promote(workspace, first)
    with pytest.raises(Conflict, match="nothing to roll back to"):
        roll_back(workspace)
    promote(workspace, second)
    assert served(load_channel(workspace, "lamps")) == {second.id: 1}
    assert served(roll_back(workspace)) == {first.id: 1}
    assert workspace.store.records.state(Release, first.id) == "live"
    assert workspace.store.records.state(Release, second.id) == "candidate"
    assert served(roll_back(workspace)) == {second.id: 1}, "rolling back twice is going forward"


def test_rolling_back_a_channel_that_is_not_there_names_those_that_are(cut: Cut) -> None:
    workspace, release = cut(OPEN_GATE)
    promote(workspace, release)
    with pytest.raises(NotFound, match="Did you mean 'lamps'"):
        roll_back(workspace, "lamp")


def test_a_canary_takes_its_share_and_the_others_keep_theirs_in_proportion(cut: Cut) -> None:
    workspace, first = cut(OPEN_GATE)
    second = cut_plain_release(workspace, engine="echo", model="echo")
    third = cut_plain_release(workspace, engine="echo", model="other")
    split(workspace, "lamps", [(first, 6), (second, 2)])
    assert served(load_channel(workspace, "lamps")) == {first.id: 0.75, second.id: 0.25}
    assert served(promote(workspace, third, weight=0.2)) == pytest.approx(
        {first.id: 0.6, second.id: 0.2, third.id: 0.2}
    )
    assert served(promote(workspace, third)) == {third.id: 1}


@pytest.mark.parametrize("weight", [0, -1, 1.5, float("nan")])
def test_a_share_outside_its_bounds_is_refused(cut: Cut, weight: float) -> None:
    workspace, release = cut(OPEN_GATE)
    with pytest.raises(Conflict):
        promote(workspace, release, weight=weight)
    assert list_channels(workspace) == []


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_split_with_a_weight_that_is_none_is_refused(cut: Cut, weight: float) -> None:
    workspace, release = cut(OPEN_GATE)
    with pytest.raises(Conflict):
        split(workspace, "lamps", [(release, weight)])
    assert list_channels(workspace) == []


def test_a_release_named_twice_in_a_split_is_refused(cut: Cut) -> None:
    workspace, release = cut(OPEN_GATE)
    with pytest.raises(Conflict):
        split(workspace, "lamps", [(release, 0.5), (release, 0.5)])


def test_a_release_that_is_served_is_not_retired(cut: Cut) -> None:
    workspace, first = cut(OPEN_GATE)
    second = cut_plain_release(workspace, engine="echo", model="echo")
    promote(workspace, first, "support")
    with pytest.raises(Conflict, match="served by support"):
        retire(workspace, first)
    promote(workspace, second, "support")
    retire(workspace, first)
    assert workspace.store.records.state(Release, first.id) == "retired"


def test_a_retired_release_is_not_promoted_unless_it_is_forced(cut: Cut) -> None:
    workspace, release = cut(OPEN_GATE)
    retire(workspace, release)
    with pytest.raises(Conflict, match="retired"):
        promote(workspace, release)
    promote(workspace, release, force=True)
    assert workspace.store.records.state(Release, release.id) == "live"


def test_a_shadow_sees_traffic_and_is_not_a_share(cut: Cut) -> None:
    workspace, first = cut(OPEN_GATE)
    second = cut_plain_release(workspace, engine="echo", model="echo")
    promote(workspace, first)
    assert shadow(workspace, "lamps", second).shadow == second.id
    assert served(load_channel(workspace, "lamps")) == {first.id: 1}
    assert shadow(workspace, "lamps", None).shadow is None


def test_a_plain_release_pins_no_prompt_and_no_index(workspace: Workspace) -> None:
    plain = cut_plain_release(workspace, engine="echo", model="echo")
    assert (plain.prompt, plain.index, plain.decoding.max_tokens) == (None, None, None)
    assert cut_plain_release(workspace, engine="echo", model="echo") == plain
    assert cut_plain_release(workspace, engine="echo", model="other").number == 2


def test_a_release_names_its_index_by_version(cut: Cut) -> None:
    workspace, release = cut()
    assert release.index is not None
    index = workspace.store.records.get(Index, str(release.index))
    assert index.hash == release.index.hash


def served(channel: Channel) -> dict[str, float]:
    return {share.release: share.weight for share in channel.shares}
