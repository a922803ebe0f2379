"""A canary that spoils loses its traffic by itself; shadows run behind the users' backs."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from slipway.access.audit import verify_audit
from slipway.access.keys import create_key
from slipway.domain.feedback import Feedback, Finding
from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.domain.ids import new_id
from slipway.domain.release import Channel, Release
from slipway.domain.routing import AdaptiveSplit, RollbackRule
from slipway.gateway.breakers import Upstream
from slipway.release.channels import promote, roll_back, set_adaptive, set_rule, shadow
from slipway.tracing.ingest import drain
from slipway.workspace import open_workspace

SCORED = "\n[watch]\nsample = 1.0\n"


@pytest.fixture
def trial(folder, tools, upstream):
    """A channel `plain` whose canary gets half of the traffic; the mock's model `moody` answers for it."""
    toml = folder / "slipway.toml"
    toml.write_text(toml.read_text() + SCORED + "\n[routing]\nbreaker_failures = 0\nretry_share = 0.0\n")
    with open_workspace(folder) as workspace:
        stable = tools.plain_release(workspace, model="steady")
        canary = tools.plain_release(workspace, model="moody")
        promote(workspace, stable, "plain", force=True)
        promote(workspace, canary, "plain", weight=0.5, force=True)
        with tools.serving(workspace) as served:
            served.stable, served.canary = stable, canary
            yield served


def channel(served) -> Channel:
    return served.workspace.store.records.get(Channel, "plain")


def ask(served, times: int, *, client: httpx.Client, first: int = 0) -> list[httpx.Response]:
    return [
        client.post(
            f"{served.url}/v1/chat/completions",
            json={"model": "plain", "user": f"u{first + number}", "messages": [{"role": "user", "content": "hi"}]},
        )
        for number in range(times)
    ]


def test_a_canary_that_fails_half_the_time_is_rolled_back_within_fifty_requests(trial, upstream, until):
    upstream.state.half_broken.add("moody")
    with httpx.Client(timeout=60) as client:
        user = next(
            f"u{number}"
            for number, answer in enumerate(ask(trial, 20, client=client))
            if answer.headers["x-slipway-release"] == trial.canary.id
        )
        first = 20
        while len(channel(trial).shares) == 2 and first < 400:
            ask(trial, 10, client=client, first=first)
            first += 10
        assert until(lambda: len(channel(trial).shares) == 1)
        assert upstream.state.asked["moody"] <= 50
        assert until(lambda: trial.gateway.snapshot.channels["plain"].canary is None)
        asked = upstream.state.asked["moody"]
        # Whoever was with the canary is with the other release now, and everybody is served.
        moved = [
            client.post(f"{trial.url}/v1/chat/completions", json={"model": "plain", "user": user, "messages": []})
            for _ in range(3)
        ]
        assert {answer.headers["x-slipway-release"] for answer in moved} == {trial.stable.id}
        assert all(answer.status_code == 200 for answer in ask(trial, 20, client=client))
        assert upstream.state.asked["moody"] == asked


def test_a_roll_back_stands_in_the_channel_the_audit_log_and_the_findings(trial, upstream, until):
    upstream.state.broken.add("moody")
    with httpx.Client(timeout=60) as client:
        ask(trial, 40, client=client)
        assert until(lambda: channel(trial).canary is None)
    changed = channel(trial)
    assert [share.release for share in changed.shares] == [trial.stable.id]
    assert "rolled back" in changed.changed_by
    records = trial.workspace.store.records
    assert records.state(Release, trial.canary.id) == "candidate"
    (finding,) = records.list(Finding)
    assert finding.release == trial.canary.id
    assert finding.facts["measure"] == "error_rate"
    assert "100%" in finding.detail
    events = [event for event in trial.workspace.store.audit.events() if event.action == "release.roll_back"]
    assert [(event.actor, event.thing, event.detail["canary"]) for event in events] == [
        ("slipway", "plain", trial.canary.label)
    ]
    assert verify_audit(trial.workspace.store).problem == ""
    # Rolling back by hand must not bring the bad one back.
    assert trial.canary.id not in {share.release for share in changed.previous}


def test_what_a_fallback_saves_still_counts_against_the_canary(folder, tools, upstream, until):
    toml = folder / "slipway.toml"
    spare = f'\n[engines.spare]\nkind = "openai"\nbase_url = "{upstream.url}"\n'
    toml.write_text(toml.read_text() + spare + '\n[routing.fallback.plain]\nto = ["spare/ok"]\n')
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace, model="ok"), "plain", force=True)
        promote(workspace, tools.plain_release(workspace, model="500"), "plain", weight=0.5, force=True)
        with tools.serving(workspace) as served, httpx.Client(timeout=60) as client:
            assert {answer.status_code for answer in ask(served, 60, client=client)} == {200}
            assert until(lambda: channel(served).canary is None)


def test_when_everybody_fails_it_is_not_the_canary(trial, upstream):
    upstream.state.broken |= {"moody", "steady"}
    with httpx.Client(timeout=60) as client:
        ask(trial, 60, client=client)
    assert len(channel(trial).shares) == 2


def test_a_rule_that_is_off_leaves_the_canary_where_it_is(trial, upstream, until):
    set_rule(trial.workspace, "plain", None)
    assert until(lambda: trial.gateway.snapshot.channels["plain"].rule is None)
    upstream.state.broken.add("moody")
    with httpx.Client(timeout=60) as client:
        ask(trial, 60, client=client)
    assert len(channel(trial).shares) == 2


def test_requests_that_are_wrong_in_themselves_do_not_count(trial):
    with httpx.Client(timeout=60) as client:
        for number in range(60):
            client.post(
                f"{trial.url}/v1/chat/completions",
                json={"model": "plain", "user": f"u{number}", "messages": [], "stream": "yes"},
            )
    assert len(channel(trial).shares) == 2


def test_who_is_over_the_limit_was_not_failed_by_the_canary(folder, tools, upstream):
    toml = folder / "slipway.toml"
    toml.write_text(toml.read_text() + "\n[limits.project]\ntokens_per_minute = 500\n")
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace, model="steady"), "plain", force=True)
        promote(workspace, tools.plain_release(workspace, model="moody"), "plain", weight=0.5, force=True)
        with tools.serving(workspace) as served, httpx.Client(timeout=60) as client:
            body = {"model": "plain", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9000}
            url = f"{served.url}/v1/chat/completions"
            answers = [client.post(url, json=body | {"user": f"u{number}"}) for number in range(20)]
            watch = served.gateway.snapshot.watches["plain"]
            late = [answer for answer in answers if answer.status_code == 429]
            assert len({answer.headers.get("x-slipway-release") for answer in late} - {None}) == 2
            assert (watch.outcomes(canary=True).errors, watch.outcomes(canary=False).errors) == (0, 0)


def test_what_was_never_asked_of_a_canary_does_not_hide_that_it_fails(folder, tools, upstream):
    """Wrong requests, keys that may not call it and kept answers would else count as good ones."""
    toml = folder / "slipway.toml"
    toml.write_text(toml.read_text() + "\n[cache]\nenabled = true\n")
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace, model="steady"), "plain", force=True)
        promote(workspace, tools.plain_release(workspace, model="moody"), "plain", weight=0.5, force=True)
        _, elsewhere = create_key(workspace.store, "elsewhere", models=["other"])
        with tools.serving(workspace) as served, httpx.Client(timeout=60) as client:
            watch = served.gateway.snapshot.watches["plain"]

            def seen() -> tuple[float, float]:
                counted = [watch.outcomes(canary=canary) for canary in (False, True)]
                return sum(one.requests for one in counted), sum(one.errors for one in counted)

            url = f"{served.url}/v1/chat/completions"
            body = {"model": "plain", "messages": [{"role": "user", "content": "hi"}]}
            for number in range(20):
                refused = client.post(
                    url, json=body | {"user": f"u{number}"}, headers={"authorization": f"Bearer {elsewhere}"}
                )
                assert refused.status_code == 403
                assert client.post(url, json=body | {"stream": "yes", "user": f"u{number}"}).status_code == 400
            assert seen() == (0, 0)
            for _ in range(2):
                ask(served, 20, client=client)
            assert seen() == (20, 0)


def test_a_canary_that_is_slow_is_rolled_back(folder, tools, upstream, until):
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace, model="ok"), "plain", force=True)
        promote(workspace, tools.plain_release(workspace, model="slow-0.5"), "plain", weight=0.5, force=True)
        set_rule(workspace, "plain", RollbackRule(error_rate=None, quality_drop=None, latency_ratio=1.5, fewest=1))
        with tools.serving(workspace) as served, httpx.Client(timeout=60) as client:
            first = 0
            while len(channel(served).shares) == 2 and first < 200:
                ask(served, 10, client=client, first=first)
                first += 10
            assert until(lambda: channel(served).canary is None)
            (finding,) = workspace.store.records.list(Finding)
    assert finding.facts["measure"] == "latency_s"


def say(served, answers: list[httpx.Response]) -> None:
    """Users praise the stable release and complain about the canary."""
    for answer in answers:
        good = answer.headers["x-slipway-release"] == served.stable.id
        served.workspace.store.records.save(
            Feedback(
                id=new_id(),
                trace=answer.headers["x-slipway-trace"],
                score=1.0 if good else -1.0,
                created_at=served.workspace.now(),
            )
        )
    drain(served.workspace.store, wait_s=30)


def test_a_canary_that_users_complain_about_is_rolled_back(trial, until):
    with httpx.Client(timeout=60) as client:
        say(trial, ask(trial, 60, client=client))
    assert until(lambda: channel(trial).canary is None)
    (finding,) = trial.workspace.store.records.list(Finding)
    assert finding.facts["measure"] == "feedback"


def test_an_adaptive_split_follows_what_users_say(trial, until):
    set_rule(trial.workspace, "plain", None)
    set_adaptive(trial.workspace, "plain", AdaptiveSplit(metric="feedback", floor=0.1))
    with httpx.Client(timeout=60) as client:
        say(trial, ask(trial, 60, client=client))
    assert until(lambda: max(share.weight for share in channel(trial).shares) > 0.85)
    found = channel(trial)
    assert found.shares[0].release == trial.stable.id
    assert min(share.weight for share in found.shares) >= 0.099
    means = {posterior.release: posterior.mean for posterior in found.posteriors}
    assert means[trial.stable.id] > 0.9 > 0.1 > means[trial.canary.id]
    # What rolling back returns to is what a person set, not a step of the split.
    assert [share.release for share in roll_back(trial.workspace, "plain").shares] == [trial.stable.id]


def test_workers_count_together_and_all_see_that_the_canary_is_out(trial, tools, upstream, until):
    with tools.serving(trial.workspace, worker="1") as second, httpx.Client(timeout=60) as client:
        watches = [gateway.snapshot.watches["plain"] for gateway in (trial.gateway, second.gateway)]
        both = replace(trial, url=second.url, gateway=second.gateway)
        ask(trial, 20, client=client)
        ask(both, 20, client=client, first=20)
        totals = [watch.outcomes(canary=True).requests + watch.outcomes(canary=False).requests for watch in watches]
        assert totals == [40, 40]
        upstream.state.broken.add("moody")
        ask(trial, 60, client=client, first=40)
        assert all(watch.out for watch in watches)
        answers = ask(both, 40, client=client, first=100)
        assert {answer.headers["x-slipway-release"] for answer in answers} == {trial.stable.id}
        assert until(lambda: channel(trial).canary is None)
        assert len(trial.workspace.store.records.list(Finding)) == 1


# Shadows -------------------------------------------------------------------------------------------------------------


def shadowed(trial, tools, model: str, *, share: float = 1.0, until, **more):
    release = tools.plain_release(trial.workspace, model=model, **more)
    shadow(trial.workspace, "plain", release, share=share)
    assert until(lambda: trial.gateway.snapshot.channels["plain"].shadow == release.id)
    return release


def outcome(trial, name: str) -> int:
    return trial.gateway._services.counts.shadows.get(name, 0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_shadow_gets_the_same_request_and_its_trace_says_what_it_is(trial, tools, upstream, until, stream):
    release = shadowed(trial, tools, "shade", until=until)
    answer = trial.chat("plain", user="u1", stream=stream, temperature=0.25)
    assert answer.headers["x-slipway-release"] != release.id
    assert until(lambda: outcome(trial, "sent") == 1)
    copy = next(request for request in upstream.state.requests if request["model"] == "shade")
    assert copy["temperature"] == 0.25
    row = next(row for row in trial.traces() if row.release == release.id)
    assert (row.channel, row.status, row.subject) == ("shadow", "ok", "u1")
    (span,) = trial.trace(row.id)
    assert span.environment == "shadow"
    assert span.content["shadow_of"] == answer.headers["x-slipway-trace"]
    assert span.input_tokens > 0
    page = httpx.get(f"{trial.url}/metrics").text
    assert 'slipway_shadow_requests_total{outcome="sent"} 1' in page
    assert f'channel="shadow",release="{release.label}",kind="input"' in page


@pytest.mark.parametrize("path", ["openai/deployments/plain/chat/completions", "v1beta/models/plain:generateContent"])
def test_a_shadow_is_counted_by_what_was_called_however_it_was(trial, tools, until, path):
    shadowed(trial, tools, "shade", until=until)
    said = {"messages": [{"role": "user", "content": "hi"}], "contents": [{"parts": [{"text": "hi"}]}]}
    assert trial.post(f"/{path}", said).status_code == 200
    assert until(lambda: outcome(trial, "sent") == 1)
    assert "plain:generate" not in (page := httpx.get(f"{trial.url}/metrics").text)
    assert "/deployments/" not in page


@pytest.mark.parametrize("model", ["500", "reset", "hang", "garbage", "stall"])
def test_a_shadow_that_fails_harms_nobody(trial, tools, upstream, until, model):
    shadowed(trial, tools, model, until=until)
    for _ in range(3):
        assert trial.chat("plain", stream=model == "stall").status_code == 200
    assert until(lambda: outcome(trial, "failed") == 3)


def test_a_shadow_that_trips_over_its_own_requests_leaves_its_original_the_engine(folder, tools, upstream, until):
    """Both ask the same model; of their calls, which take turns, those of the shadow fail."""
    toml = folder / "slipway.toml"
    toml.write_text(toml.read_text() + "\n[routing]\nretry_share = 0.0\n")
    rails = Guardrails(before=(RailSpec(name="length", action="flag", settings={"max_characters": 500}),))
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace, model="moody"), "plain", force=True)
        shadow(workspace, "plain", tools.plain_release(workspace, model="moody", guardrails=rails))
        with tools.serving(workspace) as served:
            upstream.state.half_broken.add("moody")
            assert served.chat("fast/moody").status_code == 500
            for number in range(1, 31):
                assert served.chat("plain").status_code == 200
                assert until(lambda number=number: outcome(served, "failed") == number)
            everybody = Upstream("fast", upstream.url.removesuffix("/v1"), "moody")
            assert served.gateway._services.breakers.state(everybody) == "closed"


def test_a_shadow_takes_no_retry_of_those_who_are_answered(folder, tools, upstream, until):
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        shadow(workspace, "plain", tools.plain_release(workspace, model="503"))
        with tools.serving(workspace) as served:
            for number in range(1, 5):
                assert served.chat("plain").status_code == 200
                assert until(lambda number=number: outcome(served, "failed") == number)
            assert served.gateway._services.budget._tokens == 10
    assert upstream.state.asked["503"] == 4


def test_shadows_are_bounded_and_what_comes_on_top_is_dropped(trial, tools, upstream, until):
    shadowed(trial, tools, "hang", until=until)
    with httpx.Client(timeout=60) as client:
        assert {answer.status_code for answer in ask(trial, 40, client=client)} == {200}
    assert upstream.state.asked["hang"] <= 16 + outcome(trial, "failed")
    assert outcome(trial, "dropped") >= 1


def test_a_shadow_of_a_release_that_cannot_answer_is_only_counted(trial, tools, until):
    shadowed(trial, tools, "x", engine="nobody", until=until)
    assert trial.chat("plain").status_code == 200
    assert until(lambda: outcome(trial, "failed") == 1)


def test_a_share_of_the_requests_is_copied(trial, tools, upstream, until):
    shadowed(trial, tools, "shade", share=0.3, until=until)
    with httpx.Client(timeout=60) as client:
        ask(trial, 100, client=client)
    assert 10 <= outcome(trial, "sent") + outcome(trial, "dropped") <= 55
