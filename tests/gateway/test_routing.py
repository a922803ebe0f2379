"""Model names lead to channels and releases; the same person gets the same release; changes arrive whole."""

from collections import Counter

import pytest

from slipway.domain.errors import NotFound
from slipway.domain.ids import ReleaseId
from slipway.domain.release import Channel, Share
from slipway.gateway.snapshot import MOST_RAW
from slipway.release.channels import promote, split
from slipway.workspace import open_workspace


@pytest.fixture
def two(folder, tools):
    """A channel `plain` with two releases, half each."""
    with open_workspace(folder) as workspace:
        first, second = (tools.plain_release(workspace, model=model) for model in ("ok", "other"))
        promote(workspace, first, "plain", force=True)
        promote(workspace, second, "plain", weight=0.5, force=True)
        promote(workspace, second, "plain@canary", force=True)
        with tools.serving(workspace) as served:
            served.releases = (first, second)
            yield served


def release_of(served, model: str, **more) -> str:
    answer = served.chat(model, **more)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-slipway-release"]


def test_a_person_always_gets_the_same_release_and_people_are_spread(two):
    chosen = {user: release_of(two, "plain", user=user) for user in (f"u{number}" for number in range(30))}
    assert {release_of(two, "plain", user="u7") for _ in range(5)} == {chosen["u7"]}
    assert min(Counter(chosen.values()).values()) >= 5
    assert set(chosen.values()) == {release.id for release in two.releases}


def test_a_session_counts_where_no_person_is_named(two):
    session = {"x-slipway-session": "s-1"}
    assert len({release_of(two, "plain", headers=session) for _ in range(6)}) == 1


def test_without_either_chance_decides(two):
    assert {release_of(two, "plain") for _ in range(40)} == {release.id for release in two.releases}


def test_a_release_by_its_label_its_id_and_its_channel(two):
    first, second = two.releases
    for name in (second.label, second.id, second.id[:16], "plain@canary"):
        assert release_of(two, name) == second.id
    assert release_of(two, first.label) == first.id


def test_raw_models_only_where_they_are_allowed(two, until):
    assert two.chat("fast/anything").status_code == 200
    toml = two.workspace.folder / "slipway.toml"
    toml.write_text(toml.read_text().replace("raw_models = true", "raw_models = false"))
    two.gateway.reload()
    assert until(lambda: not two.gateway.snapshot.workspace.settings.server.raw_models)
    assert two.chat("fast/anything").status_code == 404


def test_a_raw_model_is_looked_up_once_and_again_when_the_settings_change(two, until):
    assert two.chat("fast/ok").status_code == 200
    snapshot = two.gateway.snapshot
    assert snapshot.raw_target("fast/ok") is snapshot.raw_target("fast/ok")
    with pytest.raises(NotFound):
        snapshot.raw_target("nobody/ok")
    for number in range(MOST_RAW):
        snapshot.raw_target(f"fast/{number}")
    assert len(snapshot._raw) == MOST_RAW
    toml = two.workspace.folder / "slipway.toml"
    toml.write_text(toml.read_text() + '\n[engines.late]\nkind = "echo"\n')
    before = snapshot.raw_target("fast/ok")
    two.gateway.reload()
    assert until(lambda: "late" in two.gateway.snapshot.workspace.settings.engines)
    assert two.gateway.snapshot.raw_target("fast/ok") is not before


def test_a_promotion_arrives_without_a_restart(two, until):
    first, _ = two.releases
    split(two.workspace, "plain", [(first, 1.0)])
    assert until(lambda: len(two.gateway.snapshot.channels["plain"].shares) == 1)
    assert {release_of(two, "plain") for _ in range(10)} == {first.id}


BAD_SETTINGS = [
    pytest.param("raw_models = true", "raw_modelz = true", id="an unknown key"),
    pytest.param("[server]", "[server", id="broken TOML"),
    pytest.param('kind = "openai"', 'kind = "opnai"', id="an engine that there is not"),
    pytest.param("first_byte_s = 1.5", "first_byte_s = nan", id="a deadline that is no number"),
    pytest.param("first_byte_s = 1.5", "first_byte_s = 0", id="a deadline that nobody could keep"),
    pytest.param("raw_models = true", "raw_models = true\n[routing]\nbreaker_s = inf", id="a pause without end"),
]


@pytest.mark.parametrize(("old", "new"), BAD_SETTINGS)
def test_a_bad_slipway_toml_is_refused_and_the_old_one_stays(two, until, old, new):
    toml = two.workspace.folder / "slipway.toml"
    toml.write_text(toml.read_text().replace(old, new))
    before = two.gateway.snapshot
    two.gateway.reload()
    assert until(lambda: two.gateway._watcher.problem != "")
    assert two.gateway.snapshot.workspace is before.workspace
    assert two.chat("plain").status_code == 200
    toml.write_text(toml.read_text().replace(new, old))
    two.gateway.reload()
    assert until(lambda: two.gateway._watcher.problem == "")


def test_a_store_that_cannot_be_read_stops_nothing(two, until, monkeypatch):
    from slipway.domain.errors import StoreUnavailable

    def locked(*_args, **_more):
        raise StoreUnavailable("sqlite", "locked", next_step="Wait.")

    with monkeypatch.context() as patch:
        patch.setattr(type(two.workspace.store.records), "list", locked)
        assert until(lambda: "locked" in two.gateway._watcher.problem)
        assert two.chat("plain").status_code == 200
    assert until(lambda: two.gateway._watcher.problem == "")


def test_a_release_whose_engine_is_gone_says_so(folder, tools):
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace, engine="fast"), "plain", force=True)
        toml = folder / "slipway.toml"
        toml.write_text(toml.read_text().replace("[engines.fast]", "[engines.faster]"))
    with open_workspace(folder) as workspace, tools.serving(workspace) as served:
        answer = served.chat("plain")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "release_unavailable"
        assert "Did you mean 'faster'" in answer.json()["error"]["message"]


def test_before_the_first_promotion_the_next_step_is_named(folder, tools):
    with open_workspace(folder) as workspace, tools.serving(workspace) as served:
        answer = served.chat("lamps")
        assert answer.status_code == 404
        assert "slipway release promote" in answer.json()["error"]["message"]


def test_a_channel_may_hold_a_release_that_the_gateway_has_not_seen(two, until):
    """A channel that names an unknown release is left out rather than breaking the others."""
    stranger = Channel(
        name="strange",
        shares=(Share(release=ReleaseId("f" * 64), weight=1.0),),
        changed_at=two.workspace.now(),
    )
    two.workspace.store.records.save(stranger)
    assert until(lambda: "strange" in two.gateway.snapshot.channels)
    assert two.chat("strange").status_code == 503
    assert two.chat("plain").status_code == 200
    assert two.client.models.list()
