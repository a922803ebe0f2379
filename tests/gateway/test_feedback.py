"""A user's word on an answer, joined to its trace."""

import threading

import pytest

from slipway.domain.feedback import Feedback
from slipway.tracing.ingest import drain


@pytest.fixture
def trace(served) -> str:
    answer = served.chat("plain", user="u-1")
    drain(served.workspace.store)
    return answer.headers["x-slipway-trace"]


def saved(served, answer) -> Feedback:
    assert answer.status_code == 200, answer.text
    return served.workspace.store.records.get(Feedback, answer.json()["id"])


@pytest.mark.parametrize(
    ("given", "score"),
    [
        pytest.param({"score": 0.5}, 0.5, id="a score"),
        pytest.param({"thumbs": "up"}, 1.0, id="a thumb up"),
        pytest.param({"thumbs": "down"}, -1.0, id="a thumb down"),
        pytest.param({"comment": "hm"}, 0.0, id="a comment alone says neither"),
        pytest.param({"correction": "12 euros"}, -1.0, id="a correction says that the answer was wrong"),
        pytest.param({"score": 1, "comment": "great", "correction": ""}, 1.0, id="score and comment"),
    ],
)
def test_what_users_say(served, trace, given, score):
    feedback = saved(served, served.post("/v1/feedback", {"trace": trace, **given}))
    assert feedback.score == score
    assert feedback.comment == given.get("comment", "")
    assert feedback.correction == given.get("correction", "")
    assert feedback.trace == trace
    assert feedback.subject == "u-1"
    edges = served.workspace.store.lineage.descendants([("trace", trace)])
    assert ("feedback", feedback.id) in [edge.child for edge in edges]


def test_feedback_may_come_before_its_trace_has_arrived(served):
    answer = served.chat("plain", user="u-3")
    arrival = threading.Timer(0.5, drain, [served.workspace.store])
    arrival.start()
    feedback = saved(served, served.post("/v1/feedback", {"trace": answer.headers["x-slipway-trace"], "score": 1}))
    arrival.join()
    assert feedback.subject == "u-3"


def test_a_trace_that_nobody_knows(served, monkeypatch):
    monkeypatch.setattr("slipway.gateway.feedback.ARRIVES_WITHIN_S", 0.1)
    answer = served.post("/v1/feedback", {"trace": "f" * 32, "score": 1})
    assert answer.status_code == 404
