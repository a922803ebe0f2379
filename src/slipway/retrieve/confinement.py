"""Runs parsers in a child process with limits on time and memory, so that a crafted file fails alone."""

from __future__ import annotations

import contextlib
import os
import select
import struct
import subprocess
import sys
import time
from types import TracebackType
from typing import IO, Self

import msgspec

from slipway.retrieve.parsers.base import Parsed, Unparsable, parsers

LENGTH = struct.Struct(">Q")
MOST_TEXT = 256 * 1024 * 1024


class Outcome(msgspec.Struct):
    """What the child sends back: one of the two."""

    parsed: Parsed | None = None
    reason: str = ""


class Confinement:
    """One child that parses file after file; it is killed and replaced when a file breaks a limit.

    `seconds` are wall time a file, `memory_mb` is the child's whole address space.
    """

    def __init__(self, *, seconds: float = 60.0, memory_mb: int = 2048) -> None:
        self.seconds = seconds
        self.memory_mb = memory_mb
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def parse(self, parser: str, content: bytes) -> Parsed:
        """Raises `Unparsable` with the reason, also when the child died or was stopped."""
        child = self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        deadline = time.monotonic() + self.seconds
        try:
            with contextlib.suppress(BrokenPipeError):
                _send(child.stdin, parser.encode())
                _send(child.stdin, content)
            answer = _receive(child.stdout.fileno(), deadline)
        except TimeoutError:
            self._stop()
            raise Unparsable(f"reading it took longer than {self.seconds:g} s") from None
        except BaseException:
            self._stop()
            raise
        if answer is None:
            self._stop()
            raise Unparsable(f"its reader crashed or needed more than {self.memory_mb} MB of memory")
        outcome = msgspec.msgpack.decode(answer, type=Outcome)
        if outcome.parsed is None:
            raise Unparsable(outcome.reason)
        return outcome.parsed

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self.memory_mb)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        return self._child

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _send(pipe: IO[bytes], content: bytes) -> None:
    view = memoryview(LENGTH.pack(len(content)) + content)
    while view:
        view = view[pipe.write(view) :]


def _receive(handle: int, deadline: float) -> bytes | None:
    """One message, or None when the other side is gone. Raises `TimeoutError`."""
    header = _read_exactly(handle, LENGTH.size, deadline)
    if header is None:
        return None
    (length,) = LENGTH.unpack(header)
    return _read_exactly(handle, length, deadline) if length <= MOST_TEXT else None


def _read_exactly(handle: int, length: int, deadline: float) -> bytes | None:
    pieces = bytearray()
    while len(pieces) < length:
        ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        piece = os.read(handle, min(1 << 20, length - len(pieces)))
        if not piece:
            return None
        pieces += piece
    return bytes(pieces)


def _serve(memory_mb: int) -> None:
    """The child: reads parser name and content, writes the outcome, until its input ends."""
    if sys.platform != "win32":
        import resource

        limit = memory_mb * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while header := source.read(LENGTH.size):
        name = source.read(LENGTH.unpack(header)[0]).decode()
        content = source.read(LENGTH.unpack(source.read(LENGTH.size))[0])
        try:
            outcome = Outcome(parsed=parsers.make(name).parse(content))
        except Unparsable as wrong:
            outcome = Outcome(reason=str(wrong))
        except MemoryError:
            outcome = Outcome(reason=f"reading it needs more than {memory_mb} MB of memory")
        except Exception as wrong:  # a parser may fail in any way on a crafted file, and the next file must go on
            outcome = Outcome(reason=f"its reader failed ({type(wrong).__name__})")
        _send(sink, msgspec.msgpack.encode(outcome))
        sink.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
