"""How numbers are written on pages: three significant digits, units, signs, intervals, and a dash for the unknown."""

import math
from datetime import UTC, datetime

from slipway.domain.money import Money

UNKNOWN = "–"
MINUS = "−"


def significant(value: float | None, digits: int = 3) -> str:
    """`0.8731` as 0.873, `12345` as 12,300; None and NaN as a dash."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    rounded = round(value, digits - 1 - magnitude)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    if decimals > 8:
        return f"{rounded:.{digits - 1}g}".replace("-", MINUS)
    return f"{rounded:,.{decimals}f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """A whole number with thousands separated: nothing is rounded away."""
    return UNKNOWN if value is None else f"{round(value):,}".replace("-", MINUS)


def compact(value: float) -> str:
    """For axes, where room is short: 1.5k, 2M, 0.05."""
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}".replace("-", MINUS)
    return f"{value:.3g}".replace("-", MINUS)


def seconds(value: float | None) -> str:
    """Milliseconds below one second, then seconds, minutes, hours."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if abs(value) < 0.0995:
        return f"{significant(round(value * 1000, 2), 2)} ms"
    if abs(value) < 0.9995:
        return f"{round(value * 1000)} ms"
    if abs(value) < 120:
        return f"{significant(value)} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def share(value: float | None) -> str:
    """A share of one as per cent: `0.034` as 3.40 %."""
    if value is None or math.isnan(value):
        return UNKNOWN
    per_cent = value * 100
    if per_cent in (0, 100):
        return f"{per_cent:.0f} %"
    return f"{significant(per_cent) if abs(per_cent) < 99.95 else format(per_cent, '.1f')} %"


def money(amount: float | None, currency: str = "USD") -> str:
    return (
        UNKNOWN if amount is None or math.isnan(amount) else str(Money.of(amount, currency)).replace("$-", f"{MINUS}$")
    )


def micros(value: int | None) -> str:
    """Money from millionths of a dollar."""
    return UNKNOWN if value is None else str(Money(micros=value))


def size(value: float | None) -> str:
    """Bytes, in binary steps."""
    if value is None:
        return UNKNOWN
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            return f"{count(value) if unit == 'bytes' else significant(value)} {unit}"
        value /= 1024
    return UNKNOWN


def quantity(value: float | None, unit: str = "") -> str:
    """A value in its unit, as `Measure.unit` names it."""
    match unit:
        case "":
            return significant(value)
        case "share" | "ratio" | "%":
            return share(value)
        case "s" | "seconds":
            return seconds(value)
        case "ms":
            return seconds(None if value is None else value / 1000)
        case "USD" | "$" | "usd" | "dollars":
            return money(value)
        case "micros":
            return micros(None if value is None else round(value))
        case _:
            return f"{significant(value)} {unit}" if value is not None else UNKNOWN


def interval(low: float | None, high: float | None, unit: str = "") -> str:
    """`0.81 to 0.92`, or nothing when there is no interval."""
    if low is None or high is None:
        return ""
    return f"{quantity(low, unit)} to {quantity(high, unit)}"


def signed(value: float, unit: str = "") -> str:
    """A difference carries its sign."""
    text = quantity(abs(value), unit)
    if value == 0:
        return f"±{text}"
    return f"+{text}" if value > 0 else f"{MINUS}{text}"


def difference(value: float, low: float | None, high: float | None, unit: str = "") -> str:
    """A difference with its interval, in words when the interval spans zero."""
    if low is None or high is None:
        return signed(value, unit)
    bounds = f"{signed(value, unit)} ({signed(low, unit)} to {signed(high, unit)})"
    return f"{bounds}, no clear difference" if low <= 0 <= high else bounds


def moment(when: datetime | None) -> str:
    """`22 Nov 10:25:42` in UTC, with the year when it is not this one."""
    if when is None:
        return UNKNOWN
    when = when.astimezone(UTC)
    year = "" if when.year == datetime.now(UTC).year else f" {when.year}"
    return f"{when.day} {when:%b}{year} {when:%H:%M:%S}"


def day(when: datetime | None) -> str:
    return UNKNOWN if when is None else f"{when.day} {when:%b %Y}"


def ago(when: datetime | None, now: datetime) -> str:
    """How long ago, in the largest whole unit."""
    if when is None:
        return UNKNOWN
    passed = (now - when).total_seconds()
    for length, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if passed >= length:
            number = int(passed // length)
            return f"{number} {word}{'s' if number > 1 else ''} ago"
    return "just now"


def plural(number: int, one: str, many: str = "") -> str:
    """`1 case`, `12 cases`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
