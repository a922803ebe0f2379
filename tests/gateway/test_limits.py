"""Limits and budgets over the real gateway: exact over all workers, for every API, whole and streamed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from slipway.access.counters import ALL, UNSETTLED
from slipway.access.keys import create_key, find_key
from slipway.domain.access import Limits
from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.gateway.admission import most_usage
from slipway.release.channels import promote, shadow
from slipway.workspace import open_workspace

PRICED = "[prices.fast]\ninput = 1000.0\noutput = 1000.0\n"
"""The upstream counts 120 tokens in and 50 out: 0.17 dollars a request at this price."""
COST = 170_000
HELLO = [{"role": "user", "content": "hi"}]
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"


@contextmanager
def application(folder: Path, mock: Any, tools: Any, more: str = "", **keys: Limits):
    """An application with the channel `plain`, and the texts of its keys."""
    folder = tools.make_application(folder, mock.url, PRICED + more)
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        promote(workspace, tools.documents_release(workspace, engine="fast", model="stall"), "slow", force=True)
        yield workspace, {name: create_key(workspace.store, name, limits=limits)[1] for name, limits in keys.items()}


@pytest.fixture(scope="module")
def metered(tmp_path_factory, mock, tools):
    """A gateway with keys, each for one test."""
    limits = {
        "rated": Limits(requests_per_minute=5, tokens_per_minute=100_000),
        "wordy": Limits(tokens_per_minute=1000),
        "rich": Limits(monthly_budget_micros=10 * COST),
        "poor": Limits(monthly_budget_micros=1000),
        "streams": Limits(monthly_budget_micros=100 * COST),
        "failing": Limits(monthly_budget_micros=10 * COST),
        "free": Limits(),
    }
    with (
        application(tmp_path_factory.mktemp("limits") / "lamps", mock, tools, **limits) as (workspace, keys),
        tools.serving(workspace, keys_required=True) as served,
    ):
        served.keys = keys
        yield served


def body_for(path: str, *, stream: bool = False, model: str = "plain", max_tokens: int = 50) -> dict[str, Any]:
    if path == RESPONSES:
        return {"model": model, "input": "hi", "stream": stream, "max_output_tokens": max_tokens}
    return {"model": model, "messages": HELLO, "stream": stream, "max_tokens": max_tokens}


def ask(served, name: str, path: str = CHAT, **more: Any) -> httpx.Response:
    return served.post(path, body_for(path, **more), headers={"authorization": f"Bearer {served.keys[name]}"})


def spent(served, name: str) -> int:
    admission = served.gateway._services.admission
    run_in_loop(served, admission.close)  # what this worker holds of limits goes back, as it does within two seconds
    admission._meter.flush()
    key = next(key for key in served.gateway.snapshot.keys.values() if key.name == name)
    found = served.workspace.store.spending.of(served.workspace.now().strftime("%Y-%m")).get(key.id)
    return found.micros if found else 0


def run_in_loop(served, do) -> None:
    async def done() -> None:
        do()

    asyncio.run_coroutine_threadsafe(done(), served.gateway.express.loop).result(30)


def test_headers_say_what_is_left(metered):
    answer = ask(metered, "rated")
    assert answer.headers["x-ratelimit-limit-requests"] == "5"
    assert answer.headers["x-ratelimit-remaining-requests"] == "4"
    assert 0 < int(answer.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
    assert answer.headers["x-ratelimit-limit-tokens"] == "100000"
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 100_000
    refused = [ask(metered, "rated") for _ in range(5)][-1]
    assert refused.status_code == 429
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    free = ask(metered, "free")
    assert not any(name.startswith("x-ratelimit") for name in free.headers)


def test_tokens_are_set_aside_and_corrected(metered):
    answers = [ask(metered, "wordy", max_tokens=400) for _ in range(6)]
    # Each sets aside about 425 tokens and uses 170 of them: with four done, 680 are used and the fifth does not fit.
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429, 429]
    left = int(answers[-1].headers["x-ratelimit-remaining-tokens"])
    assert left == 1000 - 4 * 170


def test_a_request_that_could_cost_more_than_is_left_is_refused_with_the_reason(metered):
    answer = ask(metered, "poor")
    assert answer.status_code == 429
    assert "has $0.001 left, and this request may cost" in answer.json()["error"]["message"]
    assert "max_tokens" in answer.json()["error"]["message"]


def test_a_budget_ends_where_it_should(metered):
    statuses = Counter(ask(metered, "rich").status_code for _ in range(14))
    assert statuses[429] >= 4
    assert 0 < spent(metered, "rich") <= 10 * COST
    assert spent(metered, "rich") == statuses[200] * COST


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
@pytest.mark.parametrize("stream", [False, True])
def test_every_api_is_paid_for_whole_and_streamed(metered, path, stream):
    before = spent(metered, "streams")
    answer = ask(metered, "streams", path, stream=stream)
    assert answer.status_code == 200
    paid = spent(metered, "streams") - before
    # A chat stream whose client asks for no usage is estimated; the other APIs always bring it.
    assert paid == COST or (path == CHAT and stream and 0 < paid < COST)


def test_what_fails_gives_back_what_was_set_aside(metered):
    for _ in range(12):
        assert ask(metered, "failing", model="fast/400").status_code == 400
    assert spent(metered, "failing") == 0
    assert ask(metered, "failing").status_code == 200


def test_a_stream_that_is_left_costs_what_had_come(metered, until, upstream):
    headers = {"authorization": f"Bearer {metered.keys['streams']}"}
    before = spent(metered, "streams")
    body = body_for(CHAT, stream=True, model="fast/stall")
    with (
        httpx.Client(timeout=30, headers=headers) as client,
        client.stream("POST", f"{metered.url}{CHAT}", json=body) as answer,
    ):
        assert next(answer.iter_raw())
    assert until(lambda: metered.gateway._counts.in_flight == 0)
    row = next(row for row in metered.traces() if row.model == "stall")
    assert row.status == "cancelled"
    assert row.output_tokens > 0
    assert row.cost_micros > 0
    assert spent(metered, "streams") - before == row.cost_micros


def test_a_stream_from_documents_that_is_left_is_paid_for_too(metered, until):
    headers = {"authorization": f"Bearer {metered.keys['streams']}"}
    before = spent(metered, "streams")
    body = body_for(CHAT, stream=True, model="slow") | {"messages": [{"role": "user", "content": "What is express?"}]}
    with (
        httpx.Client(timeout=30, headers=headers) as client,
        client.stream("POST", f"{metered.url}{CHAT}", json=body) as answer,
    ):
        trace = answer.headers["x-slipway-trace"]
        assert next(answer.iter_raw())
    assert until(lambda: metered.gateway._counts.in_flight == 0)
    root = metered.trace(trace)[0]
    assert root.status == "cancelled"
    assert root.usage_estimated
    assert root.output_tokens > 0
    assert root.cost_micros > 0
    assert spent(metered, "streams") - before == root.cost_micros


def test_limits_of_people_and_of_the_project(tmp_path, mock, tools):
    more = "[limits.person]\nrequests_per_minute = 2\nmonthly_budget = 5.0\n[limits.project]\nrequests_per_minute = 5\n"
    with application(tmp_path / "lamps", mock, tools, more) as (workspace, _), tools.serving(workspace) as served:

        def statuses(user: str, times: int) -> list[int]:
            return [served.chat("plain", user=user).status_code for _ in range(times)]

        assert statuses("anna", 3) == [200, 200, 429]
        assert statuses("ben", 1) == [200]
        assert statuses("cleo", 2) == [200, 429]
        served.gateway._services.admission._meter.flush()
        holders = served.workspace.store.spending.of(served.workspace.now().strftime("%Y-%m"))
        assert holders["project"].micros == 4 * COST
        people = {name: used.micros for name, used in holders.items() if name.startswith("person:")}
        assert sorted(people.values()) == [COST, COST, 2 * COST]
        assert not any("anna" in name for name in people)


# Several workers -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crew(tmp_path_factory, mock, tools):
    """A server of two workers: its address, the texts of its keys, its folder."""
    limits = {
        "rated": Limits(requests_per_minute=100),
        "budget": Limits(monthly_budget_micros=1_000_000),
        "killed": Limits(monthly_budget_micros=3 * COST),
    }
    with application(tmp_path_factory.mktemp("crew") / "lamps", mock, tools, **limits) as (workspace, keys):
        folder = workspace.folder
    command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(folder), "--json", "--workers", "2"]
    process = subprocess.Popen([*command, "--no-pages"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with process.stdout:
        try:
            url = json.loads(process.stdout.readline())["endpoint"].removesuffix("/v1")
            yield url, keys, folder
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


async def flood(url: str, key: str, bodies: list[tuple[str, dict[str, Any]]]) -> Counter[int]:
    """All at once, each on a connection of its own, so that the kernel spreads them over the workers."""
    port = int(url.rpartition(":")[2])

    async def one(path: str, body: dict[str, Any]) -> int:
        content = msgspec.json.encode(body)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return int(answer.split(b" ", 2)[1])

    return Counter(await asyncio.gather(*(one(path, body) for path, body in bodies)))


async def test_of_400_at_once_over_two_workers_a_limit_of_100_lets_exactly_100_pass(crew):
    url, keys, _ = crew
    assert await flood(url, keys["rated"], [(CHAT, body_for(CHAT))] * 400) == {200: 100, 429: 300}


async def test_200_at_once_over_two_workers_pass_no_budget_of_one_dollar(crew, until):
    url, keys, folder = crew
    # With 150 tokens of answer each sets aside a little more than it will cost.
    asked = [
        (path, body_for(path, stream=stream, max_tokens=150))
        for path in (CHAT, MESSAGES, RESPONSES)
        for stream in (True, False)
    ]
    assert set(await flood(url, keys["budget"], (asked * 34)[:200])) == {200, 429}
    # What was set aside too much is free again, until no request fits any more.
    while (await flood(url, keys["budget"], [asked[1]]))[200]:
        pass

    def spent_in_all() -> int:
        with open_workspace(folder) as workspace:
            used = workspace.store.spending.of(workspace.now().strftime("%Y-%m"))
            budget = find_key(workspace.store, "budget")
            assert budget is not None
            return used[budget.id].micros if budget.id in used else 0

    # Written down within a second or so.
    assert until(lambda: spent_in_all() > 1_000_000 - 2 * COST)
    assert spent_in_all() <= 1_000_000


def test_killed_workers_give_back_what_they_had_set_aside(crew, mock, until):
    url, keys, _ = crew
    headers = {"authorization": f"Bearer {keys['killed']}"}
    body = body_for(CHAT, max_tokens=400)
    ended: list[str] = []

    def wait_for_ever() -> None:
        try:
            httpx.post(f"{url}{CHAT}", json=body, headers=headers, timeout=60)
        except httpx.HTTPError as cut:
            ended.append(type(cut).__name__)

    mock.state.asked.clear()
    mock.state.silent = True
    try:
        waiting = threading.Thread(target=wait_for_ever, daemon=True)
        waiting.start()
        assert until(lambda: mock.state.asked["ok"] > 0)
        # 400 tokens of answer are set aside: no second request fits.
        assert httpx.post(f"{url}{CHAT}", json=body, headers=headers, timeout=60).status_code == 429
        for worker in workers_of(os.getpid()):
            os.kill(worker, signal.SIGKILL)
        waiting.join(60)
    finally:
        mock.state.silent = False
    assert ended

    def passes() -> bool:
        try:
            return httpx.post(f"{url}{CHAT}", json=body, headers=headers, timeout=60).status_code == 200
        except httpx.HTTPError:
            return False

    assert until(passes)


def workers_of(process: int) -> list[int]:
    """The workers of the server that this process runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().split(b"\0")
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
            grand = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if b"slipway.server" in command and grand == process:
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "n"])
@pytest.mark.parametrize("value", [-1, -(10**9), -(10**30), 0])
def test_a_length_below_nothing_sets_nothing_less_aside(metered, field, value):
    """Else who asks for it would make room in a budget, for as long as the request takes."""
    body = json.dumps(body_for(CHAT) | {"max_tokens": None, field: value}).encode()
    answer = metered.post(CHAT, body, headers={"authorization": f"Bearer {metered.keys['poor']}"})
    assert answer.status_code == 429
    target = next(iter(metered.gateway.snapshot.targets.values()))
    given = most_usage(target, body=b"{}", fields={field: msgspec.Raw(str(value).encode())})
    assert given == most_usage(target, body=b"{}", fields={})


@pytest.mark.parametrize("value", [2**63, 10**30, 10**400])
def test_a_length_beyond_all_numbers_is_no_error_of_ours(metered, value):
    for name, field in (("poor", "max_tokens"), ("poor", "n"), ("streams", "max_tokens"), ("streams", "n")):
        body = body_for(CHAT) | {field: value}
        raw = json.dumps(body).encode()
        answer = metered.post(CHAT, raw, headers={"authorization": f"Bearer {metered.keys[name]}"})
        assert answer.status_code in (200, 429), answer.text
    assert ask(metered, "free").status_code == 200


STAND_IN = "[routing.fallback.dead]\nunreachable = ['fast/ok']\n"


@pytest.mark.parametrize("more", [STAND_IN, STAND_IN + "[cache]\nenabled = true\n"], ids=["no cache", "cache"])
def test_when_all_is_quiet_nothing_is_reserved(tmp_path, mock, tools, until, more):
    """Whatever became of requests: engines that fail, clients that leave, rails, the cache, stand-ins, shadows."""
    limits = Limits(requests_per_minute=10**6, tokens_per_minute=10**9, monthly_budget_micros=10**12)
    with application(tmp_path / "lamps", mock, tools, more, shop=limits) as (workspace, keys):
        rails = Guardrails(before=(RailSpec(name="personal_data", action="block"),))
        promote(workspace, tools.plain_release(workspace, guardrails=rails), "railed", force=True)
        shadow(workspace, "plain", tools.plain_release(workspace, model="shadow"), share=1.0)
        with tools.serving(workspace, keys_required=True) as served:
            models = ["ok", "400", "429", "500", "cut", "garbage", "short", "no-usage", "reset", "error-event", "hang"]
            odd = [body_for(CHAT, model=f"fast/{model}", stream=stream) for model in models for stream in (False, True)]
            odd += [body_for(CHAT, model=model) for model in ("dead/ok", "nobody", "plain", "plain", "slow", "pair/ok")]
            odd += [body_for(CHAT, model="railed") | {"messages": [{"role": "user", "content": "I am a@b.eu"}]}]
            odd += [{"model": "plain", "messages": 3}, {"model": "plain", "messages": HELLO, "max_tokens": "x"}]
            headers = {"authorization": f"Bearer {keys['shop']}"}
            with ThreadPoolExecutor(16) as pool:
                answers = list(pool.map(lambda body: served.post(CHAT, body, headers=headers), odd * 2))
            assert {200, 400, 404, 500, 502, 504} <= {answer.status_code for answer in answers}
            for answer in answers:
                if "x-ratelimit-limit-requests" in answer.headers:
                    assert 0 < int(answer.headers["x-ratelimit-remaining-requests"]) < 10**6
                    assert 0 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 10**9
            for stream in (False, True):
                with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2]))) as left:
                    asked = json.dumps(body_for(CHAT, model="fast/hang", stream=stream)).encode()
                    head = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {keys['shop']}\r\n"
                    left.sendall(f"{head}content-length: {len(asked)}\r\n\r\n".encode() + asked)
            gateway = served.gateway
            table, leases = gateway._counters, gateway._services.admission._leases

            def unsettled() -> list[int]:
                with table.locked() as words:
                    return [
                        number for row in table._used() for number in words[row + ALL : row + ALL + UNSETTLED].tolist()
                    ]

            def quiet() -> bool:
                running = gateway._counts.in_flight or any(lease.running for lease in leases._of.values())
                return not running and not any(unsettled())

            assert until(quiet), unsettled()
            rows = served.traces(limit=500)
            # Nobody asked for what a shadow answers.
            paid = [row.cost_micros for row in rows if row.model != "shadow"]
            assert spent(served, "shop") == sum(paid) > 5 * COST
