"""The pages of traces stay quick: the list over 100,000 traces, filters, words, and one trace of 32,000 steps.

CPU time of the server until the whole page is there, median of nine; the first byte goes out with the last one. The
requests go through the real application in this process, without a network. `--traces N` changes the number.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machine import Figure, print_table
from starlette.testclient import TestClient

from slipway.domain.ids import ReleaseId, SpanId, SubjectId, TraceId
from slipway.domain.trace import Span
from slipway.lifecycle.start import init_application
from slipway.web.app import create_app
from slipway.workspace import Workspace, open_workspace

WORDS = (
    *("parcel", "lamp", "refund", "shipping", "warranty", "invoice", "express", "return"),
    *("gift", "card", "order", "customer", "broken", "late", "price"),
)
HOURS = 160
STEPS = 32_000
BIG = TraceId("ab" * 16)


def fill(workspace: Workspace, count: int) -> None:
    """Requests of a week: a root and a call of a model each, the question in both."""
    rng = random.Random(5)
    end = round(workspace.now().timestamp() * 1e9)
    for begin in range(0, count, 2000):
        spans = []
        for number in range(begin, min(count, begin + 2000)):
            start = end - round((1 - number / count) * HOURS * 3600e9)
            question = f"{' '.join(rng.choices(WORDS, k=12))} number{number}"
            whole = {
                "trace": TraceId(rng.randbytes(16).hex()),
                "start_ns": start,
                "status": "error" if number % 33 == 0 else "ok",
                "release": ReleaseId(f"{number % 4:064x}"),
                "channel": "lamps",
                "session": f"s{number // 5}",
                "subject": SubjectId(f"p-{number % 5000}"),
                "model": f"model-{number % 3}",
            }
            root = Span(
                **whole, span=SpanId(rng.randbytes(8).hex()), name="answer", kind="request",
                end_ns=start + rng.randrange(10**8, 4 * 10**9), content={"question": question},
            )  # fmt: skip
            call = Span(
                **whole, span=SpanId(rng.randbytes(8).hex()), parent=root.span, name="chat", kind="chat",
                end_ns=root.end_ns, input_tokens=1200, output_tokens=130, cost_micros=580,
                content={"messages": [{"role": "user", "text": question}], "reply": "It is on its way."},
            )  # fmt: skip
            spans += [root, call]
        workspace.store.traces.add(spans)


def fill_big(workspace: Workspace) -> None:
    """One trace of many steps, a call of a model among each ten."""
    start = round(workspace.now().timestamp() * 1e9) - 3600 * 10**9
    spans = [
        Span(
            trace=BIG,
            span=SpanId(f"{number:016x}"),
            parent=None if number == 1 else SpanId(f"{max(1, number // 40):016x}"),
            name=f"step {number}",
            kind="chat" if number % 10 == 0 else "tool",
            start_ns=start + number * 1000,
            end_ns=start + number * 1000 + 500_000,
            status="ok",
            input_tokens=10,
            output_tokens=5,
            content={"messages": [{"role": "user", "text": f"say {number}"}], "reply": "done " * 20},
        )
        for number in range(1, STEPS + 1)
    ]
    for at in range(0, STEPS, 1000):
        workspace.store.traces.add(spans[at : at + 1000])


def cpu_ms(ask: Callable[[], object], *, times: int = 9) -> float:
    ask()
    taken = []
    for _ in range(times):
        began = time.process_time()
        ask()
        taken.append(time.process_time() - began)
    return 1000 * statistics.median(taken)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--traces", type=int, default=100_000)
    count = arguments.parse_args().traces
    with tempfile.TemporaryDirectory() as folder:
        init_application(Path(folder) / "lamps", name="lamps")
        with open_workspace(Path(folder) / "lamps") as workspace:
            fill(workspace, count)
            fill_big(workspace)
            client = TestClient(create_app(workspace, work_in_background=False), base_url="http://127.0.0.1",
                                client=("127.0.0.1", 50000))  # fmt: skip

            def page(path: str, wanted: str) -> float:
                def ask() -> None:
                    answer = client.get(path)
                    assert answer.status_code == 200, answer.text[:500]
                    assert wanted in answer.text, path

                return cpu_ms(ask)

            first = workspace.store.traces.list(query="channel = lamps", limit=50)
            figures = [
                Figure("trace list, newest 50", page("/traces", "number"), "ms", 50),
                Figure("trace list, next page", page(f"/traces?after={first.next}", "number"), "ms", 50),
                Figure("filter: status, latency", page("/traces?filter=status+%3D+error+and+latency+%3E+1s", "number"),
                       "ms", 50),
                Figure("filter: a call that cost", page("/traces?filter=span.cost+%3E+0.0005", "number"), "ms", 50),
                Figure("a rare word", page(f"/traces?q=number{count // 2}", "number"), "ms", 100),
                Figure("a word that does not occur", page("/traces?q=giraffe", "No trace matches"), "ms", 100),
                Figure("one conversation", page(f"/traces/session?id=s{count // 10}", "number"), "ms", 50),
                Figure("one trace", page(f"/traces/{first.rows[0].id}", "Waterfall"), "ms", 50),
                Figure(f"a trace of {STEPS:,} steps", page(f"/traces/{BIG}", "step 40"), "ms", 1000),
                Figure("conversations of a week", page("/traces/sessions", "/traces/session?id=s"), "ms"),
                Figure("costs of a week", page("/traces/costs", "operations"), "ms"),
                Figure("5,000 calls compared", page("/traces/costs?part=repeats", "would save"), "ms"),
            ]  # fmt: skip
    return print_table(f"Pages over {count:,} traces: server CPU a page", figures)


if __name__ == "__main__":
    sys.exit(main())
