"""The audit log: every single edit, drop, swap and cut shows."""

import random
from collections.abc import Callable

import pytest
from sqlalchemy import delete, func, select, update

from slipway.access.audit import record_event, verify_audit
from slipway.store.schema import audit
from slipway.store.store import Store

LINES = 12


def fill(store: Store) -> None:
    for number in range(LINES):
        record_event(store, f"person{number % 3}", "release.promote", f"lamps@{number}", detail={"weight": "1.0"})


def change(store: Store, statement: object) -> None:
    with store.database.transaction() as connection:
        connection.execute(statement)  # type: ignore[call-overload]


def test_an_untouched_log_is_intact(store: Store) -> None:
    assert verify_audit(store).intact
    fill(store)
    report = verify_audit(store)
    assert (report.intact, report.events, report.first_bad) == (True, LINES, None)
    assert report.head == next(store.audit.events(newest_first=True, limit=1)).hash
    # An older head stays valid as the log grows.
    record_event(store, "anna", "keys.create", "x")
    assert verify_audit(store, head=report.head).intact


COLUMNS = ["at_us", "actor", "action", "thing", "detail", "hash"]


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("line", [1, 5, LINES])
def test_an_edited_column_shows(store: Store, column: str, line: int) -> None:
    fill(store)
    value: object = 5 if column == "at_us" else '{"weight":"0.5"}' if column == "detail" else "ab" * 32
    change(store, update(audit).where(audit.c.number == line).values({column: value}))
    assert verify_audit(store).first_bad == line


@pytest.mark.parametrize("line", [1, 5, LINES - 1])
def test_a_dropped_line_shows(store: Store, line: int) -> None:
    fill(store)
    change(store, delete(audit).where(audit.c.number == line))
    report = verify_audit(store)
    assert (report.first_bad, report.problem) == (line, f"line {line} is missing")


def drop_and_close_up(store: Store) -> None:
    change(store, delete(audit).where(audit.c.number == 5))
    change(store, update(audit).where(audit.c.number > 5).values(number=audit.c.number - 1))


def swap(store: Store) -> None:
    for before, after in ((4, 100), (5, 4), (100, 5)):
        change(store, update(audit).where(audit.c.number == before).values(number=after))


def insert(store: Store) -> None:
    with store.database.transaction() as connection:
        row = connection.execute(select(audit).where(audit.c.number == LINES)).one()
        connection.execute(audit.insert().values({**row._mapping, "number": LINES + 1, "thing": "forged"}))


@pytest.mark.parametrize(
    ("forge", "line"),
    [
        pytest.param(drop_and_close_up, 5, id="a line is dropped and the numbers close up"),
        pytest.param(swap, 4, id="two lines are swapped"),
        pytest.param(insert, LINES + 1, id="a line is put in"),
    ],
)
def test_a_forged_order_shows(store: Store, forge: Callable[[Store], None], line: int) -> None:
    fill(store)
    forge(store)
    assert verify_audit(store).first_bad == line


def test_a_tail_that_was_cut_off_shows_against_a_noted_head(store: Store) -> None:
    fill(store)
    head = verify_audit(store).head
    change(store, delete(audit).where(audit.c.number > LINES - 2))
    assert verify_audit(store).intact
    report = verify_audit(store, head=head)
    assert report.first_bad == LINES - 1
    assert "its tail is missing" in report.problem


def test_any_single_random_change_is_found(store: Store) -> None:
    fill(store)
    rng = random.Random(7)
    with store.database.reading() as connection:
        rows = [dict(row._mapping) for row in connection.execute(select(audit).order_by(audit.c.number))]
    for _ in range(60):
        line, column = rng.randrange(LINES), rng.choice(COLUMNS)
        before = rows[line][column]
        after: object = before + 1 if isinstance(before, int) else _one_letter(before, rng)
        change(store, update(audit).where(audit.c.number == line + 1).values({column: after}))
        assert verify_audit(store).first_bad == line + 1, (line, column, after)
        change(store, update(audit).where(audit.c.number == line + 1).values({column: before}))
    assert verify_audit(store).intact


def _one_letter(text: str, rng: random.Random) -> str:
    # The detail is JSON: a letter inside its value is changed, so that it stays readable.
    at = text.index("1") if text.startswith("{") else rng.randrange(len(text))
    return f"{text[:at]}{'7' if text[at] != '7' else '8'}{text[at + 1 :]}"


def test_a_line_appears_with_what_it_is_about_or_not_at_all(store: Store) -> None:
    def fail() -> None:
        with store.transaction():
            record_event(store, "anna", "release.promote", "lamps@1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(audit)).scalar_one() == 0


def test_projects_have_their_own_chains(store: Store) -> None:
    fill(store)
    other = store.of("other")
    assert record_event(other, "anna", "a", "b").number == 1
    assert verify_audit(other).intact
    assert verify_audit(store).events == LINES
