"""Forms of the pages: each calls its verb and says what it did, or shows its page again with the reason."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from msgspec import structs
from starlette.testclient import TestClient

from slipway.access.keys import create_key, list_keys
from slipway.domain.dataset import Dataset
from slipway.domain.deployment import DecisionRecord, Plan
from slipway.domain.feedback import Feedback
from slipway.domain.ids import SubjectId
from slipway.domain.index import Index
from slipway.domain.prompt import Prompt
from slipway.domain.release import Channel, Release
from slipway.domain.review import Review, SignOff
from slipway.evaluate.dataset import load_dataset
from slipway.evaluate.history import list_evaluations
from slipway.jobs.queue import list_jobs
from slipway.learn.inbox import list_drafts, list_findings
from slipway.prompt.library import load_prompt
from slipway.release.parts import list_releases
from slipway.retrieve.comparison import compare_settings
from slipway.retrieve.index import build_index, load_sources, remove_index
from slipway.retrieve.questions import make_questions
from slipway.review.queue import list_items

from .conftest import client_of
from .html import Page
from .seed import add_traffic

if TYPE_CHECKING:
    from slipway.workspace import Workspace


@pytest.fixture
def client(workspace: Workspace) -> TestClient:
    return client_of(workspace)


def send(client: TestClient, path: str, **form: object) -> str:
    """Posts a form and follows it; returns the text of the page one lands on."""
    answer = client.post(path, data=form, headers={"Origin": "http://127.0.0.1"})
    assert answer.status_code == 303, answer.text[:1500]
    landed = client.get(answer.headers["location"])
    assert landed.status_code == 200
    return Page(landed.text).text


def refused(client: TestClient, path: str, status: int, **form: object) -> str:
    answer = client.post(path, data=form, headers={"Origin": "http://127.0.0.1"})
    assert answer.status_code == status, answer.text[:1500]
    page = Page(answer.text)
    assert page.problems == []
    return page.text


def work(client: TestClient) -> int:
    done: int = client.app.state.worker.run_pending()  # type: ignore[attr-defined]
    return done


def a_release(client: TestClient, workspace: Workspace) -> Release:
    build_index(workspace)
    send(client, "/release", note="first")
    return list_releases(workspace)[0]


def test_an_application_is_brought_up(client: TestClient, workspace: Workspace) -> None:
    assert "is being brought up" in send(client, "/up")
    assert "Bring the application up" in Page(client.get("/").text).text
    assert work(client) == 1
    assert [job.state for job in list_jobs(workspace.store)] == ["done"]
    assert "lamps@1" in Page(client.get("/").text).text


def test_what_was_said_is_said_once(client: TestClient, workspace: Workspace) -> None:
    build_index(workspace)
    assert "lamps@1 holds what" in send(client, "/release")
    assert "lamps@1 holds what" not in Page(client.get("/release/1").text).text


def test_a_release_without_an_index_is_refused_with_the_next_step(client: TestClient) -> None:
    text = refused(client, "/release", 404)
    assert "slipway retrieve build" in text
    assert "Releases" in text, "the page it came from"


def test_a_plain_release_needs_no_index(workspace: Workspace) -> None:
    assert "only quotes" in refused(client_of(workspace), "/release/plain", 400)
    chosen = structs.replace(workspace.settings.release, engine="echo", model="echo")
    client = client_of(replace(workspace, settings=structs.replace(workspace.settings, release=chosen)))
    text = send(client, "/release/plain", note="for programs")
    assert "lamps@1 forwards requests to" in text
    release = list_releases(workspace)[0]
    assert (release.prompt, release.index, release.note) == (None, None, "for programs")
    assert (release.model.engine, release.model.name) == ("echo", "echo")
    page = Page(client.get("/release").text).text
    assert "Cut a plain release" in page
    assert "goes to echo/echo as it is" in page


def test_a_closed_gate_refuses_and_force_is_recorded(client: TestClient, workspace: Workspace) -> None:
    a_release(client, workspace)
    assert "gate of lamps@1 is closed" in refused(client, "/release/1/promote", 409, weight="100")
    assert workspace.store.records.find(Channel, "lamps") is None
    assert "lamps now gives lamps@1 100 %" in send(client, "/release/1/promote", weight="100", force="1")
    assert workspace.store.records.get(Channel, "lamps").changed_by == "local (forced)"
    assert "lamps@1 live" in Page(client.get("/").text).text.replace("lamps@1live", "lamps@1 live")


def test_a_channel_rolls_back(client: TestClient, workspace: Workspace) -> None:
    a_release(client, workspace)
    assert "slipway release promote" in refused(client, "/release/roll-back", 404, channel="lamps")
    send(client, "/release/1/promote", weight="100", force="1")
    prompt = workspace.folder / "prompts" / "answer.md"
    prompt.write_text(prompt.read_text(encoding="utf-8") + "\nBe brief.\n", encoding="utf-8")
    send(client, "/release", note="second")
    send(client, "/release/2/promote", weight="100", force="1")
    assert "serves what it served before" in send(client, "/release/roll-back", channel="lamps")
    first = next(release for release in list_releases(workspace) if release.number == 1)
    assert workspace.store.records.get(Channel, "lamps").shares[0].release == first.id


def test_suites_run_as_jobs(client: TestClient, workspace: Workspace) -> None:
    a_release(client, workspace)
    assert "1 suite of lamps@1 at work" in send(client, "/evaluate", release="lamps@1", suite=["quality"])
    assert "Evaluate quality" in Page(client.get("/evaluate").text).text
    assert work(client) == 1
    assert [run.suite for run in list_evaluations(workspace)] == ["quality"]
    assert "No suite was chosen" in refused(client, "/evaluate", 400, release="lamps@1")


def test_a_job_that_waits_is_stopped_and_resumed(client: TestClient, workspace: Workspace) -> None:
    a_release(client, workspace)
    send(client, "/evaluate", release="lamps@1", suite=["speed"])
    job = list_jobs(workspace.store)[0]
    assert "The work is stopped." in send(client, f"/jobs/{job.id}/stop")
    assert work(client) == 0
    assert "cancelled" in Page(client.get("/jobs").text).text
    send(client, f"/jobs/{job.id}/resume")
    assert work(client) == 1


def test_a_job_that_fails_says_why(client: TestClient, workspace: Workspace) -> None:
    send(client, "/learn/triage", release="lamps@99")
    work(client)
    text = Page(client.get("/jobs").text).text
    assert "failed" in text
    assert "lamps@99" in text


def test_a_file_of_cases_becomes_a_dataset(client: TestClient, workspace: Workspace) -> None:
    rows = b'{"question": "How fast?", "expected": "three days"}\n'
    answer = client.post("/evaluate/import", data={"name": "own"}, files={"file": ("cases.jsonl", rows)})
    assert answer.status_code == 303
    dataset = workspace.store.records.latest(Dataset, "own")
    assert dataset is not None
    assert dataset.cases[0].expected == "three days"
    wrong = client.post("/evaluate/import", data={"name": "own"}, files={"file": ("cases.jsonl", b"{}\n")})
    assert wrong.status_code == 400
    assert "question" in Page(wrong.text).text


def test_a_decision_is_kept_and_answers_are_written_down(client: TestClient, workspace: Workspace) -> None:
    send(client, "/decide")
    assert workspace.store.records.latest(DecisionRecord, "lamps") is not None
    assert "slipway.toml has your answers" in send(client, "/decide/answers", requests_per_day="777", residency="EU")
    assert "777" in (workspace.folder / "slipway.toml").read_text(encoding="utf-8")
    assert 'value="777"' in client.get("/decide").text, "the page reads the file again"
    assert "is not a number" in refused(client, "/decide/answers", 400, requests_per_day="many")


def test_a_broken_settings_file_is_named_and_the_pages_stay(client: TestClient, workspace: Workspace) -> None:
    client.get("/")
    (workspace.folder / "slipway.toml").write_text("[application\n", encoding="utf-8")
    page = Page(client.get("/traces").text)
    assert "slipway.toml is not read" in page.text
    assert "not valid TOML" in page.text


def test_a_plan_is_made(client: TestClient, workspace: Workspace) -> None:
    send(client, "/deploy", model="llama-3.1-8b", hardware=["h100-sxm"])
    plan = workspace.store.records.latest(Plan, "lamps")
    assert plan is not None
    assert plan.chosen is not None
    assert plan.chosen.hardware == "h100-sxm"
    assert "no-such-model" in refused(client, "/deploy", 404, model="no-such-model")


def test_an_index_is_built_from_the_page(client: TestClient, workspace: Workspace) -> None:
    send(client, "/retrieve/build")
    assert work(client) == 1
    assert workspace.store.records.latest(Index, "documents") is not None
    (workspace.folder / "documents" / "new.md").write_text("# New\n\nSomething new.\n", encoding="utf-8")
    assert "1 document changed" in Page(client.get("/retrieve?part=changed").text).text


def test_settings_are_compared_from_the_page(client: TestClient, workspace: Workspace) -> None:
    build_index(workspace)
    send(client, "/retrieve/compare")
    assert work(client) == 1
    text = Page(client.get("/retrieve").text).text
    for words in ("Settings compared", "nDCG@10", "chunker = {"):
        assert words in text


def test_the_best_setting_is_applied_from_the_page(client: TestClient, workspace: Workspace) -> None:
    build_index(workspace)
    text = (workspace.folder / "slipway.toml").read_text(encoding="utf-8")
    (workspace.folder / "slipway.toml").write_text(f"# ours\n{text}".replace("[retrieve]", "[retrieve]\ncut = 0.1"))
    compared = compare_settings(
        workspace, cases=make_questions(load_sources(workspace).documents), sizes=[40], cuts=[0.9]
    )
    assert compared.best != compared.current
    compared = replace(compared, clear=False)
    workspace.store.records.save(compared)
    assert "Apply all the same" in Page(client.get("/retrieve").text).text
    assert "not changed" in refused(client, "/retrieve/apply", 400, comparison=compared.id)
    compared = replace(compared, clear=True)
    workspace.store.records.save(compared)
    assert "Apply the best" in Page(client.get("/retrieve").text).text
    send(client, "/retrieve/apply", comparison=compared.id)
    assert work(client) == 1
    settings = (workspace.folder / "slipway.toml").read_text(encoding="utf-8")
    assert settings.startswith("# ours\n")
    assert f"cut = {compared.best.cut:g}" in settings
    index = workspace.store.records.latest(Index, "documents")
    assert index is not None
    assert (index.version, index.search.cut) == (2, compared.best.cut)
    page = Page(client.get("/retrieve").text).text
    assert "applied as documents@2" in page
    assert "Apply the best" not in page
    refused(client, "/retrieve/apply", 404, comparison="nothing")


def test_answers_are_rated_by_key_and_taken_back(client: TestClient, workspace: Workspace) -> None:
    release = a_release(client, workspace)
    send(client, "/evaluate", release="lamps@1", suite=["quality"])
    work(client)
    send(client, "/review/queue", release="lamps@1", limit="4", source="evaluations")
    items = list_items(workspace, release)
    form = {"item": items[0].id, "number": "1", "reviewer": "ana", "background": "support", "note": "fine"}
    page = client.post("/review/rate", data={**form, "rating": "4"})
    assert page.headers["location"] == "/review?release=1&reviewer=ana&background=support"
    assert [(review.reviewer, review.rating) for review in workspace.store.records.list(Review)] == [("ana", 4)]
    assert len(list_items(workspace, release, reviewer="ana")) == len(items) - 1
    assert "No rating was chosen" in refused(client, "/review/rate", 400, **form)
    assert "taken back" in send(client, "/review/undo", number="1", reviewer="ana")
    assert workspace.store.records.list(Review) == []


def test_a_role_signs_and_a_rejection_says_why(client: TestClient, workspace: Workspace) -> None:
    a_release(client, workspace)
    with (workspace.folder / "slipway.toml").open("a", encoding="utf-8") as settings:
        settings.write('\n[review]\nroles = ["support"]\n')
    form = {"release": "lamps@1", "role": "support", "person": "ben"}
    assert "needs its reason" in refused(client, "/review/sign", 400, **form, decision="reject")
    assert "no-such-role" in refused(client, "/review/sign", 400, **form | {"role": "no-such-role"}, decision="approve")
    assert "lamps@1 is approved as support" in send(client, "/review/sign", **form, decision="approve", note="ok")
    assert [(sign.person, sign.decision) for sign in workspace.store.records.list(SignOff)] == [("ben", "approve")]


def test_a_trace_is_annotated_and_becomes_a_case(client: TestClient, workspace: Workspace) -> None:
    add_traffic(workspace, a_release(client, workspace), count=4)
    row = workspace.store.traces.list(limit=1).rows[0]
    form = {"score": "bad", "comment": "wrong", "correction": "five years"}
    assert "wrong" in send(client, f"/traces/{row.id}/note", **form)
    voice = workspace.store.records.list(Feedback)[0]
    assert (voice.score, voice.source, voice.correction) == (-1.0, "reviewer", "five years")
    assert "good, mixed or bad" in refused(client, f"/traces/{row.id}/note", 400, score="7")
    send(client, f"/traces/{row.id}/dataset", dataset="hard")
    dataset = workspace.store.records.latest(Dataset, "hard")
    assert dataset is not None
    assert dataset.cases[0].expected == "five years"


def test_a_finding_goes_from_triage_to_a_written_document(client: TestClient, workspace: Workspace) -> None:
    add_traffic(workspace, a_release(client, workspace), count=8)
    send(client, "/learn/triage", release="lamps@1")
    work(client)
    gap = next(finding for finding in list_findings(workspace) if finding.route == "knowledge")
    send(client, f"/learn/{gap.id}/route")
    made = list_drafts(workspace, gap)[0]
    unwritten = refused(client, f"/learn/{gap.id}/apply", 409, draft=made.id, text=made.text)
    assert "Write the answer there" in unwritten
    send(client, f"/learn/{gap.id}/apply", draft=made.id, text="# Gift cards\r\n\r\nWe sell them.\r\n")
    written = (workspace.folder / made.path).read_bytes()
    assert written == b"# Gift cards\n\nWe sell them.\n"
    assert "dismissed" in send(client, f"/learn/{gap.id}/state", state="dismissed")


def test_a_key_is_shown_once_and_revoked(client: TestClient, workspace: Workspace) -> None:
    answer = client.post(
        "/settings/keys",
        data={
            "name": "bot",
            "scope": ["chat", "traces"],
            "models": "support, support@14",
            "days": "30",
            "budget": "25",
        },
    )
    assert answer.status_code == 200
    text = Page(answer.text).text
    assert "shown this once" in text
    assert "sk-slip-" in text
    key = list_keys(workspace.store)[0]
    assert key.scopes == ("chat", "traces")
    assert key.limits.monthly_budget_micros == 25_000_000
    assert key.models == ("support", "support@14")
    plain = next(word for word in text.split() if word.startswith("sk-slip-") and "…" not in word)
    assert plain not in client.get("/settings").text
    assert "is not a number of days" in refused(client, "/settings/keys", 400, name="x", scope="chat", days="soon")
    send(client, "/settings/keys/revoke", key=key.id)
    assert not list_keys(workspace.store)[0].valid_at(workspace.now())


def test_thousands_of_keys_are_shown_in_pages_and_found_by_name(client: TestClient, workspace: Workspace) -> None:
    with workspace.store.transaction():
        keys = [create_key(workspace.store, f"customer-{number:03}")[0] for number in range(120)]
    pages = [client.get(path).text for path in ("/settings", "/settings?after=50", "/settings?after=100")]
    for key in keys:
        # In the table and in the form that revokes it, on one page only.
        assert sum(key.name in text for text in pages) == 1, key.name
    assert 'href="/settings?after=50"' in pages[0]
    assert "Older" not in pages[2]
    found = client.get("/settings?find=mer-07").text
    assert [key.name for key in keys if key.name in found] == [f"customer-07{digit}" for digit in range(10)]
    assert keys[5].name in client.get(f"/settings?find={keys[5].prefix}").text
    nothing = client.get("/settings?find=nobody")
    assert nothing.status_code == 200
    assert Page(nothing.text).problems == []
    assert "No key is called that" in nothing.text
    assert client.get("/settings?after=x").status_code == 200


def test_a_person_is_exported_and_erased_with_a_receipt(client: TestClient, workspace: Workspace) -> None:
    add_traffic(workspace, a_release(client, workspace), count=10)
    told = client.get("/privacy/export/p-1")
    assert told.headers["content-disposition"].startswith("attachment")
    assert told.json()["subject"] == "p-1"
    text = send(client, "/privacy/erase", subject="p-1")
    assert "This page is the receipt" in text
    assert workspace.store.traces.about(SubjectId("p-1")) == []
    assert "Nothing is kept about p-1" in Page(client.get("/privacy?subject=p-1").text).text
    assert client.get("/privacy/export/nobody").status_code == 404


def test_what_a_page_did_stands_in_the_audit_log(client: TestClient, workspace: Workspace) -> None:
    a_release(client, workspace)
    refused(client, "/release/1/promote", 409, weight="100")
    events = [(event.actor, event.action, event.thing) for event in workspace.store.audit.events()]
    assert ("local", "cut_release", "/release") in events
    assert all(action != "promote_release" for _, action, _ in events), "what was refused was not done"


def test_a_question_is_answered_with_its_sources(client: TestClient, workspace: Workspace) -> None:
    a_release(client, workspace)
    page = Page(client.post("/release/1/ask", data={"question": "What does express shipping cost?"}).text)
    assert "12 euros" in page.text
    assert "shipping.md" in page.text
    assert page.problems == []


def test_an_answer_streams_word_by_word_and_ends_with_its_sources(client: TestClient, workspace: Workspace) -> None:
    a_release(client, workspace)
    question = {"question": "What does express shipping cost?"}
    answer = client.post("/release/1/ask", data=question, headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [event for event in answer.text.split("\n\n") if event]
    assert events[0].startswith("event: word")
    assert events[-1].startswith("event: done")
    assert "shipping.md" in events[-1]


def test_the_theme_is_set_without_script(client: TestClient) -> None:
    answer = client.post("/theme", data={"theme": "dark"}, headers={"Referer": "/traces"})
    assert answer.headers["location"] == "/traces"
    assert 'data-theme="dark"' in client.get("/traces").text
    client.post("/theme", data={"theme": "<script>"})
    assert 'data-theme="dark"' in client.get("/").text


def test_a_draft_is_linted_and_priced_before_it_is_saved(client: TestClient, workspace: Workspace) -> None:
    page = Page(client.get("/prompt/answer").text)
    assert "v1" in page.text
    draft = {"base": "1", "system": "Do it well.", "user": "{{ question }}"}
    headers = {"HX-Request": "true", "HX-Target": "draft"}
    told = Page(client.post("/prompt/answer/draft", data=draft, headers=headers).text)
    assert told.problems == []
    for words in ("Lint", "Changes from v1", "Tokens of the prompt", "−"):
        assert words in told.text
    assert len(workspace.store.records.list(Prompt)) == 1, "nothing was kept"
    assert not any(event.thing.endswith("/draft") for event in workspace.store.audit.events())
    broken = client.post("/prompt/answer/draft", data=draft | {"user": "{{ question"}, headers=headers)
    assert broken.status_code == 200
    assert "error" in Page(broken.text).text


def test_a_prompt_is_saved_labelled_and_taken_back(client: TestClient, workspace: Workspace) -> None:
    client.get("/prompt")
    first = load_prompt(workspace, "answer")
    draft = {"base": "1", "system": first.system + "\r\nBe concise.", "user": first.user, "note": "shorter"}
    assert "answer@2 is in answer.md" in send(client, "/prompt/answer/save", **draft)
    assert "Be concise." in (workspace.folder / "prompts" / "answer.md").read_text(encoding="utf-8")
    assert load_prompt(workspace, "answer@2").note == "shorter"
    assert "tested stands on version 2" in send(client, "/prompt/answer/label", version="2", label="tested")
    assert "Version 1 is current again" in send(client, "/prompt/answer/roll-back", version="1")
    assert load_prompt(workspace, "answer").version == 1
    assert "2" in refused(client, "/prompt/answer/label", 404, version="9", label="tested")
    refused(client, "/prompt/answer/save", 400, **draft | {"user": "{{ question"})
    assert "starts with the text" in send(client, "/prompt", name="other")
    assert "already" in refused(client, "/prompt", 400, name="other")


def test_versions_are_tried_side_by_side(client: TestClient, workspace: Workspace) -> None:
    build_index(workspace)
    client.get("/prompt")
    first = load_prompt(workspace, "answer")
    send(client, "/prompt/answer/save", base="1", system=first.system + "\nBe concise.", user=first.user)
    send(client, "/prompt/answer/try", version=["1", "2"], limit="2")
    assert "Run 2 cases × 2 versions" in Page(client.get("/prompt/answer").text).text
    assert work(client) == 1
    text = Page(client.get("/prompt/answer").text).text
    for words in ("answer@1 on extractive", "answer@2 on extractive", "more tokens than", "30 days"):
        assert words in text
    assert "No version was chosen" in refused(client, "/prompt/answer/try", 400, limit="2")


def test_a_text_is_checked_by_the_rails(client: TestClient) -> None:
    form = {"text": "Write to ana@example.org", "source": "answer"}
    page = Page(client.post("/guard/check", data=form).text)
    assert page.problems == []
    for words in ("personal data", "redact", "[EMAIL]", "1 email"):
        assert words in page.text
    assert client.post("/guard/check", data={"text": " ", "source": "user"}).status_code == 400
    assert client.post("/guard/check", data={"text": "x", "source": "moon"}).status_code == 400


def test_rails_are_measured_on_labelled_texts(client: TestClient) -> None:
    rows = [{"text": f"Write to a{n}@example.org", "label": 1} for n in range(5)]
    rows += [{"text": f"Parcel number {n}", "label": 0} for n in range(5)]
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    form = {"source": "answer", "rail": "personal_data", "budget": "1"}
    answer = client.post("/guard/score", data=form, files={"file": ("rows.jsonl", body)})
    page = Page(answer.text)
    assert page.problems == []
    for words in ("Scoreboard 10 labelled texts", "personal data", "at least 50"):
        assert words in page.text
    wrong = client.post("/guard/score", data=form, files={"file": ("rows.jsonl", b"{}")})
    assert wrong.status_code == 400


def test_a_csv_of_requests_becomes_a_decision(client: TestClient, workspace: Workspace) -> None:
    rows = "time;tokens\n" + "".join(f"2026-11-16T{n // 60:02d}:{n % 60:02d}:00Z;{500 + n}\n" for n in range(600))
    sent = {"file": ("traffic.csv", rows.encode())}
    answer = client.post("/decide/traffic", data={"keep": "on"}, files=sent)
    assert answer.status_code == 303
    record = workspace.store.records.latest(DecisionRecord, "lamps")
    assert record is not None
    assert record.demand.traffic is not None
    assert record.demand.traffic.requests == 600
    assert "requests_per_day = 1440" in (workspace.folder / "slipway.toml").read_text(encoding="utf-8")
    for content, why in (
        (b"", "No file was chosen"),
        (b"\xff\xfe\x00", "is not text in UTF-8"),
        (b"time,tokens\nyesterday,4\n", "traffic.csv"),
        (b"time,tokens\n1,-4\n2,3\n", "line 2: -4 tokens; a length has to be zero or more"),
        (b"1,2\n" * 6_000_000, "the page takes 20"),
    ):
        wrong = client.post("/decide/traffic", files={"file": ("traffic.csv", content)})
        assert wrong.status_code == 400
        assert why in Page(wrong.text).text
        assert "/tmp" not in Page(wrong.text).text


KINDS_OF_LAMP = "arc bay can desk eye fan gas hall ice jar key led map neon oil pin rod sun tea urn"
LAMPS = KINDS_OF_LAMP.split()


def lamp_index(workspace: Workspace) -> Index:
    for lamp in LAMPS:
        path = workspace.folder / "documents" / f"{lamp}.md"
        path.write_text(f"# The {lamp} lamp\n\nThe {lamp} lamp carries a warranty of two years.\n", encoding="utf-8")
    return build_index(workspace)


def test_gaps_are_calibrated_on_pasted_questions(client: TestClient, workspace: Workspace) -> None:
    lamp_index(workspace)
    assert "not calibrated" in Page(client.get("/retrieve").text).text
    pasted = "\n".join(f"How long is the warranty of the {lamp} lamp?" for lamp in LAMPS)
    said = send(client, "/retrieve/calibrate", index="documents@1", questions=pasted, false_alarms="5")
    assert "20 answered questions of yours are being asked" in said
    assert "Calibrate documents@1" in said
    assert work(client) == 1
    index = workspace.store.records.get(Index, "documents@1")
    assert index.calibration is not None
    assert (index.calibration.questions, index.calibration.false_alarms) == (20, 0.05)
    page = Page(client.get("/retrieve").text)
    assert page.problems == []
    assert "Calibrated on your 20 questions" in page.text
    assert "Cut-off" in page.text
    assert "Answered: false alarms 20" in page.text
    fragment = client.get("/retrieve", headers={"HX-Request": "true", "HX-Target": "calibration"}).text
    assert "Calibrated on your 20 questions" in fragment
    assert '<form class="fields" method="post" action="/retrieve/calibrate"' not in fragment
    assert [case.answerable for case in load_dataset(workspace, "calibration").cases] == [True] * 20
    # The questions stay, so that the next version can be calibrated on them as well.
    send(client, "/retrieve/calibrate", index="documents@1", dataset="calibration", false_alarms="20")
    assert work(client) == 1
    again = workspace.store.records.get(Index, "documents@1").calibration
    assert again is not None
    assert again.false_alarms == 0.2
    assert "as it was shipped" in send(client, "/retrieve/calibrate/undo", index="documents@1")
    assert workspace.store.records.get(Index, "documents@1").calibration is None
    assert "nothing to undo" in refused(client, "/retrieve/calibrate/undo", 400, index="documents@1")


def test_gaps_are_calibrated_on_a_file_that_names_what_answers(client: TestClient, workspace: Workspace) -> None:
    lamp_index(workspace)
    rows = [{"question": f"Is there a warranty for the {lamp} lamp?", "documents": [f"{lamp}.md"]} for lamp in LAMPS]
    rows += [{"question": f"Who painted the {lamp}?", "answerable": False} for lamp in LAMPS[:3]]
    content = "\n".join(json.dumps(row) for row in rows).encode()
    answer = client.post(
        "/retrieve/calibrate",
        data={"index": "documents@1", "false_alarms": "10", "dataset": "", "questions": ""},
        files={"file": ("asked.jsonl", content)},
        headers={"Origin": "http://127.0.0.1"},
    )
    assert answer.status_code == 303
    assert work(client) == 1
    found = workspace.store.records.get(Index, "documents@1").calibration
    assert found is not None
    assert (found.questions, found.left_out.of, found.unanswered.of) == (20, 20, 3)
    text = Page(client.get("/retrieve").text).text
    assert "Answered, without what answers: found 20" in text
    assert "Not answered: found 3" in text


MANY = "\n".join(f"How long is the warranty of lamp number {number}?" for number in range(20))
NOT_CALIBRATED = [
    pytest.param({}, 400, "No question was given", id="nothing"),
    pytest.param({"questions": "What?", "dataset": "calibration"}, 400, "given twice", id="two ways"),
    pytest.param({"questions": "Is there a lamp?"}, 400, "1 answered question is too few", id="too few"),
    pytest.param({"questions": '{"question": 3}'}, 400, "'pasted questions', line 1", id="no case"),
    pytest.param({"questions": '{"question": "a", "answerable": false}'}, 400, "None of the 1", id="none answered"),
    pytest.param({"questions": MANY, "false_alarms": "many"}, 400, "'many' is no rate", id="no rate"),
    pytest.param({"questions": MANY, "index": "documents@9"}, 404, "no index 'documents@9'", id="the index is gone"),
    pytest.param({"dataset": "asked"}, 404, "no dataset 'asked'", id="the dataset is gone"),
]


@pytest.mark.parametrize(("form", "status", "why"), NOT_CALIBRATED)
def test_questions_that_cannot_calibrate_are_refused_in_words(
    client: TestClient, workspace: Workspace, form: dict[str, str], status: int, why: str
) -> None:
    build_index(workspace)
    assert why in refused(
        client, "/retrieve/calibrate", status, **{"index": "documents@1", "false_alarms": "5", **form}
    )
    assert list_jobs(workspace.store) == []
    assert workspace.store.records.list(Dataset) == []


def test_an_index_that_is_removed_while_its_calibration_waits_is_told(client: TestClient, workspace: Workspace) -> None:
    remove = lamp_index(workspace)
    pasted = "\n".join(f"How long is the warranty of the {lamp} lamp?" for lamp in LAMPS)
    send(client, "/retrieve/calibrate", index="documents@1", questions=pasted, false_alarms="5")
    remove_index(workspace, remove)
    assert work(client) >= 1
    (job,) = list_jobs(workspace.store)
    assert job.state == "failed"
    assert "no index 'documents@1'" in job.message
