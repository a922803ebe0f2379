"""Agreement of reviewers against published examples."""

from datetime import UTC, datetime

import pytest

from slipway.domain.ids import ReleaseId
from slipway.domain.review import Review
from slipway.review.agreement import Scale, agreement_of, alpha_interval, cohen_kappa, krippendorff_alpha

RELEASE = ReleaseId("r" * 64)
OBSERVERS = {
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}
"""Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: four observers, twelve units."""


def by_item(table: dict[str, list[int | None]]) -> dict[int, dict[str, int]]:
    items = len(next(iter(table.values())))
    return {
        at: {name: rating for name, ratings in table.items() if (rating := ratings[at]) is not None}
        for at in range(items)
    }


PUBLISHED = [
    pytest.param("nominal", 0.743, id="nominal"),
    pytest.param("ordinal", 0.815, id="ordinal"),
    pytest.param("interval", 0.849, id="interval"),
]


@pytest.mark.parametrize(("scale", "alpha"), PUBLISHED)
def test_alpha_is_the_published_one(scale: Scale, alpha: float) -> None:
    assert krippendorff_alpha(by_item(OBSERVERS), scale=scale) == pytest.approx(alpha, abs=5e-4)


def test_two_observers_of_ten_units() -> None:
    # The same paper, section A: binary data of two observers without gaps, alpha 0.095.
    table = {"A": [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], "B": [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]}
    assert krippendorff_alpha(by_item(table), scale="nominal") == pytest.approx(0.095, abs=5e-4)


NOTHING = [
    pytest.param({}, id="no ratings"),
    pytest.param({"A": [1, 2, 3]}, id="one reviewer"),
    pytest.param({"A": [4, 4], "B": [4, 4]}, id="everybody gives the same"),
    pytest.param({"A": [1, None], "B": [None, 5]}, id="no item shared"),
]


@pytest.mark.parametrize("table", NOTHING)
def test_alpha_is_unknown_where_there_is_nothing_to_agree_on(table: dict[str, list[int | None]]) -> None:
    ratings = by_item(table) if table else {}
    assert krippendorff_alpha(ratings) is None
    assert alpha_interval(ratings) is None


def test_alpha_lies_in_its_interval_and_contradiction_is_below_zero() -> None:
    interval = alpha_interval(by_item(OBSERVERS))
    assert interval is not None
    assert interval.low < 0.815 < interval.high
    opposed = krippendorff_alpha(by_item({"A": [1, 5, 1, 5], "B": [5, 1, 5, 1]}))
    assert opposed is not None
    assert opposed < 0


def test_kappa_is_the_textbook_one() -> None:
    # Fifty grant proposals read by two people: 20 twice yes, 15 twice no, 5 and 10 apart; kappa 0.4.
    pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)
    assert cohen_kappa(pairs, weights="quadratic") == pytest.approx(0.4), "with two values the weights change nothing"
    assert cohen_kappa([]) is None
    assert cohen_kappa([(3, 3)] * 9) is None


def test_kappa_of_three_diagnoses_is_the_published_one() -> None:
    # Fleiss, Statistical Methods for Rates and Proportions (1981), table 13.1: kappa 0.676.
    counts = [[75, 1, 4], [5, 4, 1], [0, 0, 10]]
    pairs = [(row, column) for row in range(3) for column in range(3) for _ in range(counts[row][column])]
    assert cohen_kappa(pairs) == pytest.approx(0.676, abs=5e-4)
    weighted = cohen_kappa(pairs, weights="quadratic")
    assert weighted is not None
    assert weighted > 0.676, "most of the disagreement is between neighbours"


def review(item: str, reviewer: str, rating: int, background: str = "") -> Review:
    return Review(
        id=f"{item}{reviewer}",
        item=item,
        release=RELEASE,
        reviewer=reviewer,
        background=background,
        rating=rating,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_agreement_counts_who_rated_what() -> None:
    found = agreement_of(
        [
            review("a", "ada", 5, "support"),
            review("a", "ben", 4, "legal"),
            review("b", "ada", 2, "support"),
            review("b", "ben", 1, "legal"),
            review("c", "ada", 3, "support"),
        ],
        release=RELEASE,
    )
    assert (found.reviews, found.items, found.shared_items) == (5, 3, 2)
    assert found.reviewers == ("ada", "ben")
    assert found.means == {"legal": 2.5, "support": pytest.approx(10 / 3)}
    assert [(pair.reviewers, pair.items) for pair in found.pairs] == [(("ada", "ben"), 2)]


VERDICTS = [
    pytest.param([(1, 1), (5, 5), (3, 3), (2, 2)], "reliable", id="the same ratings"),
    pytest.param([(1, 5), (5, 1), (3, 3), (2, 4)], "people do not agree", id="opposite ratings"),
    pytest.param([(3, 3), (3, 3)], "not known yet", id="nothing to tell apart"),
]


@pytest.mark.parametrize(("ratings", "verdict"), VERDICTS)
def test_the_verdict_is_in_words(ratings: list[tuple[int, int]], verdict: str) -> None:
    reviews = [
        review(str(at), name, rating)
        for at, pair in enumerate(ratings)
        for name, rating in zip(("ada", "ben"), pair, strict=True)
    ]
    assert agreement_of(reviews, release=RELEASE).verdict.startswith(verdict)
