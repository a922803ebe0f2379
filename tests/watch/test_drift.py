"""Drift is named when questions change, and a week like the one before raises no alarm."""

from random import Random

import pytest

from slipway.watch.drift import FEWEST, measure_drift, script_of, stability_index

THINGS = ("parcel", "lamp", "invoice", "bulb", "refund", "warranty", "delivery", "account")


def usual(n: int, *, seed: int) -> list[str]:
    rng = Random(seed)
    return [f"how can I get a {rng.choice(THINGS)} for my {rng.choice(THINGS)} today" for _ in range(n)]


def verdicts(before: list[str], after: list[str]) -> dict[str, str]:
    return {shift.what: shift.verdict for shift in measure_drift(before, after)}


def test_two_weeks_of_the_same_kind_raise_no_alarm() -> None:
    assert set(verdicts(usual(300, seed=1), usual(300, seed=2)).values()) == {"steady"}


SHIFTS = [
    pytest.param([f"{text} " + "please tell me in detail " * 6 for text in usual(200, seed=3)], "length", id="longer"),
    pytest.param(
        [f"does the blockchain token {n} mint nonfungible yields" for n in range(200)], "words", id="new topic"
    ),
    pytest.param(["как вернуть посылку если лампа сломана"] * 200, "script", id="another script"),
]


@pytest.mark.parametrize(("after", "what"), SHIFTS)
def test_a_change_is_named_by_its_kind(after: list[str], what: str) -> None:
    assert verdicts(usual(300, seed=1), after)[what] == "shifted"


def test_few_questions_give_no_verdict() -> None:
    shifts = measure_drift(usual(300, seed=1), usual(FEWEST - 1, seed=2))
    assert [shift.verdict for shift in shifts] == ["too few"]


def test_the_index_of_equal_shares_is_zero_and_matches_a_worked_example() -> None:
    assert stability_index([0.5, 0.5], [0.5, 0.5]) == 0
    # (0.4 - 0.5) ln(0.4 / 0.5) + (0.6 - 0.5) ln(0.6 / 0.5)
    assert stability_index([0.5, 0.5], [0.4, 0.6]) == pytest.approx(0.0405, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "script"),
    [("how long", "latin"), ("сколько", "cyrillic"), ("何日ですか", "cjk"), ("123 ?!", "latin")],
)
def test_the_script_is_that_of_most_letters(text: str, script: str) -> None:
    assert script_of(text) == script


def test_small_windows_of_the_same_kind_rarely_raise_an_alarm() -> None:
    alarms = sum(
        any(verdict != "steady" for verdict in verdicts(usual(40, seed=seed), usual(40, seed=seed + 500)).values())
        for seed in range(50)
    )
    assert alarms <= 4
