"""Numbers on pages: three digits, units, signs, intervals, and a dash for the unknown."""

from datetime import UTC, datetime

import pytest

from slipway.web import number

CASES = [
    pytest.param(number.significant(0.87314), "0.873", id="three digits of a share"),
    pytest.param(number.significant(12345), "12,300", id="three digits of thousands"),
    pytest.param(number.significant(0.9996), "1.00", id="rounding that gains a digit"),
    pytest.param(number.significant(-0.5), "−0.500", id="a true minus"),
    pytest.param(number.significant(1e-12), "1e−12", id="very small"),
    pytest.param(number.significant(None), "–", id="unknown"),
    pytest.param(number.significant(float("nan")), "–", id="not a number"),
    pytest.param(number.count(257034), "257,034", id="counts are exact"),
    pytest.param(number.seconds(0.0042), "4.2 ms", id="a few milliseconds"),
    pytest.param(number.seconds(0.514), "514 ms", id="milliseconds below a second"),
    pytest.param(number.seconds(0.9999), "1.00 s", id="no 1000 ms"),
    pytest.param(number.seconds(1.314), "1.31 s", id="seconds"),
    pytest.param(number.seconds(192), "3 min 12 s", id="minutes"),
    pytest.param(number.seconds(8000), "2 h 13 min", id="hours"),
    pytest.param(number.share(0.034), "3.40 %", id="per cent"),
    pytest.param(number.share(1), "100 %", id="all of it"),
    pytest.param(number.share(0.9999), "100.0 %", id="nearly all is not all"),
    pytest.param(number.money(0.00058), "$0.00058", id="a fraction of a cent"),
    pytest.param(number.money(None), "–", id="no price"),
    pytest.param(number.quantity(250, "ms"), "250 ms", id="a measure in milliseconds"),
    pytest.param(number.quantity(1.5, "tokens"), "1.50 tokens", id="another unit"),
    pytest.param(number.interval(0.81, 0.92), "0.810 to 0.920", id="an interval"),
    pytest.param(number.interval(None, 0.92), "", id="no interval"),
    pytest.param(number.difference(0.03, 0.01, 0.05), "+0.0300 (+0.0100 to +0.0500)", id="a clear difference"),
    pytest.param(
        number.difference(0.03, -0.01, 0.07), "+0.0300 (−0.0100 to +0.0700), no clear difference", id="spans zero"
    ),
    pytest.param(number.size(1536), "1.50 KiB", id="bytes"),
    pytest.param(number.plural(1, "case"), "1 case", id="one"),
    pytest.param(number.plural(1200, "case"), "1,200 cases", id="many"),
]


@pytest.mark.parametrize(("written", "wanted"), [pytest.param(*case.values, id=case.id) for case in CASES])
def test_numbers_are_written(written: str, wanted: str) -> None:
    assert written == wanted


def test_how_long_ago() -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert number.ago(datetime(2026, 11, 22, 11, 59, 40, tzinfo=UTC), now) == "just now"
    assert number.ago(datetime(2026, 11, 20, 12, tzinfo=UTC), now) == "2 days ago"
    assert number.ago(datetime(2026, 11, 22, 11, tzinfo=UTC), now) == "1 hour ago"
