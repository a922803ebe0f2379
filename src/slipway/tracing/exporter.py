"""Sends finished traces to a server by OTLP over HTTP, from a thread of its own: its caller never waits."""

import gzip
import logging
import os
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Sequence

from slipway.config.secrets import Secret
from slipway.domain.trace import Span
from slipway.wire.otlp import encode_traces

log = logging.getLogger("slipway.tracing")
AT_ONCE = 256
"""Traces of one request at most."""
MOST_WAITING = 10_000
"""Traces that may wait for a server that does not answer; the oldest go first."""
WINDOW_S = 0.5
TIMEOUT_S = 30.0
LONGEST_PAUSE_S = 30.0
TRY_AGAIN = frozenset({408, 429, 502, 503, 504})


class Exporter:
    """A sink of a `Recorder`. `flush` waits until everything was taken; `close` flushes and ends the thread."""

    def __init__(self, endpoint: str, *, api_key: Secret, service: str) -> None:
        self.url = endpoint.rstrip("/").removesuffix("/v1/traces").removesuffix("/v1") + "/v1/traces"
        self.service = service
        self.lost = 0
        """Spans that were given up: refused by the server, or too many while it did not answer."""
        self.last_failure = ""
        self._headers = {"content-type": "application/json", "content-encoding": "gzip"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key.reveal()}"
        self._waiting: deque[Sequence[Span]] = deque()
        self._changed = threading.Condition()
        self._busy = self._ending = False
        self._hurry = 0
        self._thread: threading.Thread | None = None
        self._process = 0

    def __call__(self, spans: Sequence[Span]) -> None:
        """Takes a finished trace; returns at once."""
        with self._changed:
            if self._ending:
                self._give_up(spans, "tracing was closed before")
                return
            self._waiting.append(spans)
            if len(self._waiting) > MOST_WAITING:
                self._give_up(self._waiting.popleft(), "the server did not answer")
            if self._thread is None or self._process != os.getpid():
                # Also after a fork: threads stay behind in the parent.
                self._process, self._busy = os.getpid(), False
                self._thread = threading.Thread(target=self._run, name="slipway traces", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, *, within_s: float = 10.0) -> bool:
        """Whether everything was sent, or given up, in time."""
        with self._changed:
            self._hurry += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._waiting and not self._busy, within_s)
            finally:
                self._hurry -= 1

    def close(self, *, within_s: float = 5.0) -> None:
        self.flush(within_s=within_s)
        with self._changed:
            self._ending = True
            for spans in self._waiting:
                self._give_up(spans, self.last_failure or "the program ended")
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None and self._process == os.getpid():
            # A request that hangs ends with the program.
            self._thread.join(within_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ending)
                if not self._waiting:
                    return
                # A little later there are more of them, and a request costs more than a trace.
                self._changed.wait_for(lambda: self._hurry or self._ending or len(self._waiting) >= AT_ONCE, WINDOW_S)
                batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
                self._busy = bool(batch)
            spans = [span for trace in batch for span in trace]
            try:
                self._send(spans)
            except Exception as wrong:  # whatever it is, the thread must go on for the next ones
                self._give_up(spans, str(wrong))
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _send(self, spans: Sequence[Span]) -> None:
        """Sends until the server took or refused them, ever slower. When the program ends, once more and no longer."""
        if not spans:
            return
        body = gzip.compress(encode_traces(spans, service=self.service), 3)
        pause = 0.5
        while True:
            request = urllib.request.Request(self.url, data=body, headers=self._headers, method="POST")
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                    answer.read()
                return
            except urllib.error.HTTPError as refused:
                said = refused.read(2000).decode("utf-8", "replace")
                if refused.code not in TRY_AGAIN:
                    self._give_up(spans, f"{refused.code}: {said}")
                    return
                self._fail(f"{self.url} answered {refused.code}")
                told = refused.headers.get("retry-after", "")
                wait = min(float(told), LONGEST_PAUSE_S) if told.isdigit() else pause
            except (OSError, TimeoutError) as wrong:
                self._fail(f"{self.url} does not answer: {wrong}")
                wait = pause
            if self._pause(wait):
                self._give_up(spans, self.last_failure)
                return
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _pause(self, seconds: float) -> bool:
        """Whether the program ends meanwhile."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ending, seconds)

    def _give_up(self, spans: Sequence[Span], why: str) -> None:
        self.lost += len(spans)
        self._fail(f"{len(spans)} spans were given up: {why}")

    def _fail(self, why: str) -> None:
        if why != self.last_failure:
            self.last_failure = why
            log.warning("%s", why)
