"""The journal: what was appended is read again, whatever became of the writer."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from slipway.domain.errors import DiskFull
from slipway.store.journal import (
    MAGIC,
    RECORD,
    Journal,
    only_reader,
    overwrite,
    read_journal,
    read_segment,
    segments,
)


def the_segment(folder: Path) -> Path:
    (segment,) = segments(folder)
    return segment.path


def test_payloads_come_back_in_order(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal", worker="w") as journal:
        for number in range(100):
            journal.append(f"payload {number}".encode() * (number + 1))
    assert list(read_journal(tmp_path / "journal")) == [f"payload {n}".encode() * (n + 1) for n in range(100)]


def test_a_folder_without_segments_is_empty(tmp_path: Path) -> None:
    assert list(read_journal(tmp_path / "nothing")) == []
    Journal.open(tmp_path / "journal", worker="w").close()
    assert segments(tmp_path / "journal") == []


def test_several_threads_write_whole_records(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, worker="w")

    def write(letter: str) -> None:
        for _ in range(200):
            journal.append(letter.encode() * 500)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    payloads = list(read_journal(tmp_path))
    assert len(payloads) == 800
    assert all(len(set(payload)) == 1 and len(payload) == 500 for payload in payloads)


def test_a_full_segment_is_followed_by_another(tmp_path: Path) -> None:
    with Journal.open(tmp_path, worker="w", segment_bytes=1000) as journal:
        for number in range(10):
            journal.append(str(number).encode() * 300)
    found = segments(tmp_path)
    assert len(found) == 4
    assert all(segment.bytes <= 1000 for segment in found)
    assert [payload[:1] for payload in read_journal(tmp_path)] == [str(number).encode() for number in range(10)]


def test_a_disk_that_is_slow_holds_up_sync_and_not_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, fsync = threading.Event(), os.fsync
    synced: list[int] = []

    def slow(handle: int) -> None:
        assert disk.wait(30)
        synced.append(os.fstat(handle).st_size)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", slow)
    journal = Journal.open(tmp_path, worker="w", segment_bytes=1000)
    for number in range(10):
        journal.append(str(number).encode() * 300)
    assert [payload[:1] for payload in read_journal(tmp_path)] == [str(number).encode() for number in range(10)]
    assert not synced
    assert sum(thread.name == "journal" for thread in threading.enumerate()) <= 2
    waiting = threading.Thread(target=journal.sync)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    disk.set()
    waiting.join(30)
    assert not waiting.is_alive()
    # Three whole segments, the one that is being written, and their folder.
    assert len([size for size in synced if size > len(MAGIC)]) >= 4
    assert [segment.live() for segment in segments(tmp_path)] == [False, False, False, True]
    journal.close()


def test_what_the_disk_refuses_is_told_by_the_next_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def broken(handle: int) -> None:
        raise OSError(5, "the disk is broken")

    journal = Journal.open(tmp_path, worker="w", segment_bytes=100)
    monkeypatch.setattr(os, "fsync", broken)
    journal.append(b"x" * 90)
    journal.append(b"y" * 90)
    with pytest.raises(OSError, match="the disk is broken"):
        journal.sync()
    monkeypatch.setattr(os, "fsync", fsync)
    journal.append(b"z" * 90)
    journal.close()
    assert [payload[:1] for payload in read_journal(tmp_path)] == [b"x", b"y", b"z"]


def test_a_record_larger_than_a_segment_has_one_of_its_own(tmp_path: Path) -> None:
    with Journal.open(tmp_path, worker="w", segment_bytes=100) as journal:
        journal.append(b"x" * 5000)
    assert list(read_journal(tmp_path)) == [b"x" * 5000]


@pytest.mark.parametrize("payload", [b"", b"x" * ((64 << 20) + 1)], ids=["empty", "larger than 64 MiB"])
def test_records_that_cannot_be_kept_are_refused(tmp_path: Path, payload: bytes) -> None:
    with Journal.open(tmp_path, worker="w") as journal, pytest.raises(ValueError, match="a journal record holds"):
        journal.append(payload)


def test_a_segment_is_live_while_its_writer_is(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, worker="w")
    journal.append(b"one")
    (segment,) = segments(tmp_path)
    reading = read_segment(segment)
    assert segment.live()
    assert reading.records == [b"one"]
    assert not reading.finished
    journal.append(b"two")
    journal.close()
    rest = read_segment(segment, reading.end)
    assert rest.records == [b"two"]
    assert rest.finished
    assert not segment.live()


TAILS = [
    pytest.param(b"\x05", 0, id="half a length"),
    pytest.param(RECORD.pack(5, 123), 0, id="a head without payload"),
    pytest.param(RECORD.pack(5, 123) + b"abc", 0, id="half a payload"),
    pytest.param(bytes(64), 0, id="zeros, as a power cut leaves them"),
    pytest.param(RECORD.pack(3, 123) + b"abc", 1, id="a wrong checksum"),
    pytest.param(RECORD.pack(2**32 - 1, 0) + b"abc", 0, id="a length beyond the end"),
]


def test_a_reading_ends_after_so_many_records(tmp_path: Path) -> None:
    with Journal.open(tmp_path, worker="w") as journal:
        journal.append_all([str(number).encode() for number in range(5)])
    (segment,) = segments(tmp_path)
    first = read_segment(segment, most_records=3)
    second = read_segment(segment, first.end, most_records=2)
    assert [*first.records, *second.records] == [b"0", b"1", b"2", b"3", b"4"]
    assert (first.finished, second.finished) == (False, True)


@pytest.mark.parametrize(("tail", "damaged"), TAILS)
def test_a_torn_tail_is_cut_off(tmp_path: Path, tail: bytes, damaged: int) -> None:
    with Journal.open(tmp_path, worker="w") as journal:
        journal.append(b"whole")
    with the_segment(tmp_path).open("ab") as file:
        file.write(tail)
    reading = read_segment(segments(tmp_path)[0])
    assert reading.records == [b"whole"]
    assert (reading.damaged, reading.finished) == (damaged, True)
    assert reading.end == the_segment(tmp_path).stat().st_size


def test_a_tail_that_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, worker="w")
    journal.append(b"whole")
    (segment,) = segments(tmp_path)
    with segment.path.open("ab") as file:
        file.write(RECORD.pack(5, 1) + b"ab")
    reading = read_segment(segment)
    assert not reading.finished
    assert reading.end == len(MAGIC) + RECORD.size + 5
    journal.close()


def test_a_damaged_record_costs_only_itself(tmp_path: Path) -> None:
    with Journal.open(tmp_path, worker="w") as journal:
        for payload in (b"first", b"broken", b"third"):
            journal.append(payload)
    path = the_segment(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"broken", b"brXken"))
    reading = read_segment(segments(tmp_path)[0])
    assert reading.records == [b"first", b"third"]
    assert reading.damaged == 1


def test_a_file_that_is_no_segment_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "notes.journal").write_bytes(b"x")
    (tmp_path / "w-0000000000000001-000000.journal").write_bytes(b"no journal at all")
    assert [segment.name for segment in segments(tmp_path)] == ["w-0000000000000001-000000.journal"]
    reading = read_segment(segments(tmp_path)[0])
    assert (reading.records, reading.damaged, reading.finished) == ([], 1, True)


def test_long_segments_are_read_in_pieces(tmp_path: Path) -> None:
    with Journal.open(tmp_path, worker="w") as journal:
        for number in range(50):
            journal.append(bytes([number + 1]) * 100)
    (segment,) = segments(tmp_path)
    position, pieces = 0, 0
    seen: list[int] = []
    while not (reading := read_segment(segment, position, most_bytes=1000)).finished or reading.records:
        seen += [payload[0] for payload in reading.records]
        position, pieces = reading.end, pieces + 1
    assert seen == list(range(1, 51))
    assert pieces == 5


def test_kill_9_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import sys
                from pathlib import Path
                from slipway.store.journal import Journal

                journal = Journal.open(Path(sys.argv[1]), worker="child", segment_bytes=20_000)
                number = 0
                while True:
                    journal.append(b"%d " % number + b"x" * 200)
                    # Said only after the append has returned: this is what the reader holds the journal to.
                    sys.stdout.write(f"{number}\\n")
                    sys.stdout.flush()
                    number += 1
                """
            ),
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    acknowledged = -1
    for line in child.stdout:
        acknowledged = int(line)
        if acknowledged >= 500:
            os.kill(child.pid, signal.SIGKILL)
            break
    # What was still in the pipe was acknowledged too; the last line may be cut.
    rest = child.stdout.read().split("\n")
    acknowledged = max([acknowledged, *(int(line) for line in rest[:-1] if line)])
    child.wait()
    child.stdout.close()
    numbers = [int(payload.split()[0]) for payload in read_journal(tmp_path)]
    assert numbers == list(range(len(numbers)))
    assert numbers[-1] >= acknowledged
    assert all(read_segment(segment).damaged == 0 for segment in segments(tmp_path))


def test_a_restarted_worker_does_not_write_behind_a_torn_tail(tmp_path: Path) -> None:
    with Journal.open(tmp_path, worker="w") as journal:
        journal.append(b"before")
    with the_segment(tmp_path).open("ab") as file:
        file.write(b"\x09\x00")
    with Journal.open(tmp_path, worker="w") as journal:
        journal.append(b"after")
    assert list(read_journal(tmp_path)) == [b"before", b"after"]


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(tmp_path, worker="w")
    journal.append(b"before")
    real = os.write

    def half(handle: int, content: bytes) -> int:
        # A nearly full disk takes a part of what is written.
        return real(handle, content[: len(content) // 2])

    monkeypatch.setattr("slipway.store.journal.os.write", half)
    with pytest.raises(DiskFull, match="the disk is full"):
        journal.append(b"does not fit")
    monkeypatch.setattr("slipway.store.journal.os.write", real)
    journal.append(b"after")
    journal.close()
    assert journal.refused == 1
    assert list(read_journal(tmp_path)) == [b"before", b"after"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_really_full_disk_is_told(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, worker="w")
    journal.append(b"before")
    kept, journal._handle = journal._handle, os.open("/dev/full", os.O_WRONLY)
    with pytest.raises((DiskFull, OSError)):
        journal.append(b"does not fit")
    os.close(journal._handle)
    journal._handle = kept
    journal.append(b"after")
    journal.close()
    assert list(read_journal(tmp_path)) == [b"before", b"after"]


def test_what_was_read_can_be_overwritten_while_the_writer_goes_on(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, worker="w")
    journal.append(b"a secret of somebody")
    journal.append(b"another secret")
    (segment,) = segments(tmp_path)
    position = read_segment(segment).end
    overwrite(segment, 0, position)
    journal.append(b"later")
    assert b"secret" not in segment.path.read_bytes()
    assert read_segment(segment, position).records == [b"later"]
    # Even a reader that has lost its position finds what came later.
    assert list(read_journal(tmp_path)) == [b"later"]
    overwrite(segment, position, read_segment(segment, position).end, sync=True)
    journal.append(b"last")
    journal.close()
    assert list(read_journal(tmp_path)) == [b"last"]
    overwrite(segments(tmp_path)[0]._replace(path=tmp_path / "gone"), 0, 100)


def test_one_reader_at_a_time(tmp_path: Path) -> None:
    with only_reader(tmp_path) as first:
        assert first
        with only_reader(tmp_path, wait_s=0.05) as second:
            assert not second
    with only_reader(tmp_path) as third:
        assert third


def test_only_the_owner_can_read_the_journal(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal", worker="../odd name") as journal:
        journal.append(b"x")
    path = the_segment(tmp_path / "journal")
    assert path.parent == tmp_path / "journal"
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
