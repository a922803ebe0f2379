"""The journal: what workers append before they answer, so that a killed process loses nothing it acknowledged.

A folder holds segments, each written by one worker: a header of 8 bytes, then records of length (4 bytes), CRC-32 of
the payload (4 bytes) and payload. A record is one write to the kernel, which outlives the process: `kill -9` loses
nothing. Segments are synced to the disk when they end and when they are closed; a power cut may take the last seconds.
What was read into the database is overwritten with zeros, so that content lies in the clear only until then.
"""

import errno
import fcntl
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from slipway.domain.errors import DiskFull

MAGIC = b"SLIPJRN1"
RECORD = struct.Struct("<II")
SEGMENT_BYTES = 16 << 20
LARGEST_RECORD = 64 << 20
LONG = 32 << 10
"""Bytes from which on the kernel takes pieces one by one faster than they are joined for it."""
MOST_PIECES = 1000
"""Of one write; Linux takes 1,024."""
_SEGMENT = re.compile(r"(?P<worker>[A-Za-z0-9_.]+)-(?P<started>[0-9a-f]{16})-(?P<number>[0-9]{6})\.journal")


class Journal:
    """One worker's own segments; `append` may be called from any thread.

    Every start opens new segments, so nothing is ever written behind the torn tail of a process that was killed.
    """

    def __init__(self, folder: Path, worker: str, segment_bytes: int) -> None:
        self.folder, self.worker, self.segment_bytes = folder, worker, segment_bytes
        self.refused = 0
        """Records that could not be written since the start (disk full)."""
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        """Held by whoever puts segments that ended on the disk; taken before `_lock`, never within it."""
        self._ended: list[int] = []
        """Handles of segments that ended and are not known to lie on the disk."""
        self._folder_changed = False
        self._settler_waits = False
        """Whether a thread is on its way that has not looked yet at what there is to settle."""
        self._failure: OSError | None = None
        self._started = time.time_ns()
        self._number = 0
        self._handle = -1
        self._size = 0

    @classmethod
    def open(cls, folder: Path, *, worker: str, segment_bytes: int = SEGMENT_BYTES) -> Self:
        """Makes the folder if needed; the first segment appears with the first record."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(folder, re.sub(r"[^A-Za-z0-9_.]", "_", worker) or "worker", segment_bytes)

    def append(self, payload: bytes | bytearray) -> None:
        """Returns when the kernel has the whole record. Raises `DiskFull`; then the journal is as it was before."""
        self.append_all((payload,))

    def append_all(self, payloads: Sequence[bytes | bytearray]) -> None:
        """As `append`, for several records in one write: all of them are there, or none."""
        pieces: list[bytes | bytearray] = []
        for payload in payloads:
            if not 0 < len(payload) <= LARGEST_RECORD:
                raise ValueError(f"a journal record holds 1 to {LARGEST_RECORD} bytes, not {len(payload)}")
            pieces += (RECORD.pack(len(payload), zlib.crc32(payload)), payload)
        length = sum(map(len, pieces))
        with self._lock:
            try:
                full = self._size > len(MAGIC) and self._size + length > self.segment_bytes
                if self._handle < 0 or full:
                    self._next_segment()
                if length < LONG or len(pieces) > MOST_PIECES:
                    written = os.write(self._handle, b"".join(pieces))
                else:
                    written = os.writev(self._handle, pieces)
            except OSError as wrong:
                self._cut_back()
                self.refused += len(payloads)
                if wrong.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise DiskFull(self.folder) from wrong
                raise
            if written != length:
                self._cut_back()
                self.refused += len(payloads)
                raise DiskFull(self.folder)
            self._size += written

    def sync(self) -> None:
        """Returns when everything that was appended before lies on the disk. Raises `OSError`."""
        with self._lock:
            # Its own handle: others go on appending while the disk is at work.
            handle = os.dup(self._handle) if self._handle >= 0 else -1
        try:
            self._settle()
            if handle >= 0:
                os.fsync(handle)
        except OSError as wrong:
            self._failure = wrong
        finally:
            if handle >= 0:
                os.close(handle)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Syncs and ends the current segment; a later `append` opens another."""
        with self._lock:
            self._end_segment()
        self.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_segment(self) -> None:
        self._end_segment()
        path = self.folder / f"{self.worker}-{self._started:016x}-{self._number:06d}.journal"
        unfinished = path.with_suffix(".new")
        handle = os.open(unfinished, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            # Held while the segment is written: readers see by it that more may come. The kernel drops it with the
            # process. Renamed after that, so that no reader ever sees the segment without its writer.
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.write(handle, MAGIC) != len(MAGIC):
                raise OSError(errno.ENOSPC, "short write")
            os.rename(unfinished, path)
        except OSError:
            os.close(handle)
            raise
        self._number += 1
        self._handle, self._size = handle, len(MAGIC)
        self._folder_changed = True
        # A disk takes many milliseconds for so much. Who appends has clients that wait.
        if not self._settler_waits:
            self._settler_waits = True
            threading.Thread(target=self._settle, name="journal", daemon=True).start()

    def _end_segment(self) -> None:
        """The segment takes nothing more; to put it on the disk is left to `_settle`."""
        if self._handle >= 0:
            self._ended.append(self._handle)
            self._handle = -1

    def _settle(self) -> None:
        """Puts the segments that ended on the disk, and the names of all. What fails is told by the next `sync`."""
        with self._settling:
            with self._lock:
                self._settler_waits = False
                ended, self._ended = self._ended, []
                folder_changed, self._folder_changed = self._folder_changed, False
            for handle in ended:
                try:
                    os.fsync(handle)
                except OSError as wrong:
                    self._failure = wrong
                finally:
                    os.close(handle)
            if folder_changed:
                try:
                    _sync_folder(self.folder)
                except OSError as wrong:
                    self._failure = wrong

    def _cut_back(self) -> None:
        """Takes away a half-written record, so that the next one starts where it should."""
        if self._handle >= 0:
            os.ftruncate(self._handle, self._size)


class Segment(NamedTuple):
    """One file of the journal."""

    path: Path
    worker: str

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def bytes(self) -> int:
        """Size of the file; 0 when it is gone."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def live(self) -> bool:
        """Whether its writer still holds it."""
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False


Payload = bytes | memoryview
"""What a record holds. A long one is a view of what was read, and keeps it all: not meant to be held."""


class Reading(NamedTuple):
    """Records from one position on. `end` is where the next reading starts, `damaged` counts records left out."""

    records: list[Payload]
    end: int
    damaged: int
    finished: bool
    """No more will come: the writer is gone and everything whole was read."""


def segments(folder: Path) -> list[Segment]:
    """Every segment, in order of its start."""
    found = [
        ((match["started"], match["worker"], match["number"]), Segment(path, match["worker"]))
        for path in folder.glob("*.journal")
        if (match := _SEGMENT.fullmatch(path.name))
    ]
    return [segment for _, segment in sorted(found)]


def read_segment(
    segment: Segment, position: int = 0, *, most_bytes: int = 4 << 20, most_records: int = 1 << 30
) -> Reading:
    """Whole records from `position` on: about `most_bytes` of them, and at most `most_records`.

    The torn tail of a writer that is gone is cut off: it was never acknowledged. A record whose checksum is wrong
    although more follow was damaged on the disk; it is counted and left out.
    """
    live = segment.live()
    try:
        handle = os.open(segment.path, os.O_RDONLY)
    except FileNotFoundError:
        return Reading([], position, 0, True)
    with os.fdopen(handle, "rb") as file:
        size = os.fstat(handle).st_size
        if position == 0:
            if file.read(len(MAGIC)) != MAGIC:
                return Reading([], 0 if live else size, 0 if live or size <= len(MAGIC) else 1, not live)
            position = len(MAGIC)
        records: list[Payload] = []
        damaged = taken = 0
        file.seek(position)
        # Read in one go, and once more where the last record is longer than all the rest.
        piece = file.read(min(size - position, most_bytes + most_bytes // 8 + RECORD.size))
        if len(piece) >= RECORD.size:
            length, _ = RECORD.unpack_from(piece)
            if length > len(piece) - RECORD.size and position + RECORD.size + length <= size:
                piece += file.read(RECORD.size + length - len(piece))
        at, limit, view = 0, len(piece) - RECORD.size, memoryview(piece)
        start = position
        while at <= limit and taken < most_bytes and len(records) < most_records:
            length, checksum = RECORD.unpack_from(piece, at)
            begin, after = at + RECORD.size, at + RECORD.size + length
            if length == 0 or after > len(piece):
                break
            payload = piece[begin:after] if length < LONG else view[begin:after]
            if zlib.crc32(payload) == checksum:
                # Zeros stand where content was overwritten after it had been read.
                if payload[0] or any(payload):
                    records.append(payload)
            elif live and start + after == size:
                break
            else:
                damaged += 1
            at = after
            taken += length
        position = start + at
        enough = taken >= most_bytes or len(records) >= most_records
        if at and position < size and (enough or start + len(piece) < size):
            return Reading(records, position, damaged, False)
    if live:
        return Reading(records, position, damaged, False)
    # What is left after the last whole record is the torn tail, or the rest of a segment whose lengths are damaged.
    return Reading(records, size, damaged, True)


def read_journal(folder: Path) -> Iterator[bytes]:
    """Every whole payload of every segment, oldest segment first."""
    for segment in segments(folder):
        position = 0
        while True:
            reading = read_segment(segment, position)
            yield from map(bytes, reading.records)
            if reading.finished or reading.end == position:
                break
            position = reading.end


def overwrite(segment: Segment, begin: int, end: int, *, sync: bool = False) -> None:
    """Puts one record of zeros over the records from `begin` to `end`: they are in the database, sealed.

    Safe while the writer appends, because it never touches what lies before its end. `begin` 0 is the first record.
    """
    begin = max(begin, len(MAGIC))
    length = end - begin - RECORD.size
    if length <= 0:
        return
    zeros = bytes(length)
    try:
        handle = os.open(segment.path, os.O_WRONLY)
    except FileNotFoundError:
        return
    try:
        os.pwrite(handle, RECORD.pack(length, zlib.crc32(zeros)), begin)
        at = begin + RECORD.size
        while at < end:
            at += os.pwrite(handle, zeros[: end - at], at)
        if sync:
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def only_reader(folder: Path, *, wait_s: float = 0.0) -> Iterator[bool]:
    """Holds the folder's lock, so that one process at a time empties the journal; yields whether it was free."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(folder / "reader.lock", os.O_CREAT | os.O_RDWR, 0o600)
    give_up = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    yield False
                    return
                time.sleep(0.02)
            else:
                yield True
                return
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
