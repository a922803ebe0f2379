"""The table that finds the row of a name: against a dict, after any order of changes, and after a death over one."""

import random
from zlib import crc32

import pytest

from slipway.access.row_index import RowIndex

SLOTS = 64
CHANGING = 0
BEGIN = 1


class Table:
    def __init__(self) -> None:
        self.words = memoryview(bytearray((BEGIN + SLOTS) * 8)).cast("q")
        self.names: dict[int, bytes] = {}
        self.index = RowIndex(
            self.words, begin=BEGIN, slots=SLOTS, changing=CHANGING, name_at=lambda row: self.names.get(row, b"")
        )


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_what_a_dict_would(seed: int) -> None:
    chance, table = random.Random(seed), Table()
    # Names that fall on few slots, the last ones too, so that they stand in each other's way and around the end.
    names = [
        name for name in (b"%d" % number for number in range(2000)) if crc32(name) % SLOTS in {0, 1, 2, 61, 62, 63}
    ]
    here: dict[bytes, int] = {}
    for step in range(1000):
        name = chance.choice(names)
        if name in here:
            row = here.pop(name)
            table.index.remove(name, row)
            del table.names[row]
        elif len(here) < SLOTS // 2:
            row = here[name] = step + 1
            table.names[row] = name
            table.index.add(name, row)
        for one in (name, *chance.sample(names, 3), *here):
            assert table.index.find(one) == here.get(one)
    assert not table.index.broken


def test_what_was_left_half_done_is_made_anew_from_the_rows() -> None:
    table = Table()
    for row in range(1, 30):
        table.names[row] = b"%d" % row
        table.index.add(table.names[row], row)
    for slot in range(BEGIN, BEGIN + SLOTS, 2):
        table.words[slot] = 7
    table.words[CHANGING] = 1
    assert table.index.broken
    table.index.rebuild(table.names)
    assert not table.index.broken
    assert [table.index.find(b"%d" % row) for row in range(1, 31)] == [*range(1, 30), None]


def test_removing_what_is_not_there_changes_nothing() -> None:
    table = Table()
    table.names[5] = b"here"
    table.index.add(b"here", 5)
    table.index.remove(b"elsewhere", 9)
    assert table.index.find(b"here") == 5
