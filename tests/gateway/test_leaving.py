"""A client that leaves cancels the work it asked for, and its trace says so."""

import gc
import json
import socket

import httpx
import pytest

from slipway.gateway.door import Door
from slipway.release.channels import promote
from slipway.upstream.connection import Connection

MESSAGES = [{"role": "user", "content": "hi"}]


def open_request(url: str, path: str, body: dict) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    raw = socket.create_connection((host, int(port)), timeout=60)
    raw.sendall(
        b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (path.encode(), len(content), content)
    )
    return raw


def read_until(raw: socket.socket, wanted: bytes) -> None:
    received = b""
    while wanted not in received:
        piece = raw.recv(65536)
        assert piece, received
        received += piece


def test_before_the_answer(patient, upstream):
    raw = open_request(patient.url, "/v1/chat/completions", {"model": "fast/hang", "messages": MESSAGES})
    raw.settimeout(0.3)
    with pytest.raises(TimeoutError):
        raw.recv(1)
    raw.close()
    assert upstream.wait_cancelled("hang")
    assert_cancelled(patient, "")


def test_in_the_stream(patient, upstream):
    body = {"model": "fast/stall", "messages": MESSAGES, "stream": True}
    raw = open_request(patient.url, "/v1/chat/completions", body)
    read_until(raw, b"word4")
    raw.close()
    assert upstream.wait_cancelled("stall")
    assert_cancelled(patient, "word0 word1 word2 word3 word4")


def test_in_an_answer_from_documents(patient, upstream, tools, until):
    toml = patient.workspace.folder / "slipway.toml"
    toml.write_text(toml.read_text().replace('reply = "Express', 'delay_s = 30\nreply = "Express'))
    patient.gateway.reload()
    slow = tools.documents_release(patient.workspace)
    promote(patient.workspace, slow, force=True)
    assert until(lambda: patient.gateway.snapshot.workspace.settings.engines["script"].get("delay_s") == 30)
    assert until(lambda: "lamps" in patient.gateway.snapshot.channels)
    raw = open_request(patient.url, "/v1/chat/completions", {"model": "lamps", "messages": MESSAGES})
    raw.settimeout(0.5)
    with pytest.raises(TimeoutError):
        raw.recv(1)
    raw.close()
    assert until(lambda: "slipway_in_flight 0" in httpx.get(f"{patient.url}/metrics").text)
    newest = patient.traces()[0]
    assert (newest.status, newest.channel) == ("cancelled", "lamps")


def test_in_the_stream_of_an_answer_from_documents(patient, upstream, tools, until):
    promote(patient.workspace, tools.documents_release(patient.workspace, engine="fast", model="stall"), force=True)
    assert until(lambda: "lamps" in patient.gateway.snapshot.channels)
    body = {"model": "lamps", "messages": [{"role": "user", "content": "What does shipping cost?"}], "stream": True}
    raw = open_request(patient.url, "/v1/chat/completions", body)
    read_until(raw, b"word4")
    raw.close()
    assert upstream.wait_cancelled("stall")
    assert until(lambda: patient.traces()[0].status == "cancelled")


def test_a_stream_of_fifty_megabytes_that_nobody_reads_holds_up_nobody(patient):
    raw = open_request(patient.url, "/v1/chat/completions", {"model": "fast/big", "messages": MESSAGES, "stream": True})
    before = memory_kb()
    try:
        for _ in range(20):
            assert patient.chat("fast/ok").status_code == 200
        assert memory_kb() - before < 40_000
    finally:
        raw.close()


def memory_kb() -> int:
    """Resident memory of this process, which the gateway shares with the test."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4


def assert_cancelled(served, reply: str) -> None:
    (row,) = served.traces()
    assert row.status == "cancelled"
    (span,) = served.trace(row.id)
    assert span.content["reply"] == reply
    metrics = httpx.get(f"{served.url}/metrics").text
    assert 'outcome="cancelled"} 1' in metrics


def test_with_another_request_waiting_behind(patient, upstream, until):
    """Both came on one connection: the first one is being answered, the second one is not yet begun."""
    raw = open_request(
        patient.url, "/v1/chat/completions", {"model": "fast/stall", "messages": MESSAGES, "stream": True}
    )
    read_until(raw, b"word4")
    body = json.dumps({"model": "fast/ok", "messages": MESSAGES}).encode()
    raw.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    with httpx.Client() as other:  # by when it is answered, the server has read the second one
        for _ in range(3):
            assert other.get(f"{patient.url}/healthz").status_code == 200
    raw.close()
    assert upstream.wait_cancelled("stall")
    assert until(lambda: "slipway_in_flight 0" in httpx.get(f"{patient.url}/metrics").text)
    assert upstream.state.asked["ok"] == 0


def test_a_connection_that_is_over_waits_for_no_collector(served, until):
    """Hundreds of closed connections would hold megabytes until the collector looks."""
    plain = {"model": "fast/ok", "messages": MESSAGES}

    def come_and_go() -> None:
        for path, body in (
            ("/v1/chat/completions", plain),
            ("/v1/chat/completions", plain | {"stream": True}),
            ("/v1/messages", plain | {"max_tokens": 9}),
            ("/v1/chat/completions", plain | {"model": "fast/short"}),
        ):
            raw = open_request(served.url, path, body)
            read_until(raw, b"\r\n\r\n")
            raw.close()
        raw = socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), timeout=60)
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 99\r\n\r\n{")
        raw.close()

    def held() -> int:
        return sum(type(one) is Door or (type(one) is Connection and one.closed) for one in gc.get_objects())

    come_and_go()
    gc.collect()
    gc.disable()
    try:
        before = held()
        for _ in range(5):
            come_and_go()
        assert until(lambda: held() <= before)
    finally:
        gc.enable()
