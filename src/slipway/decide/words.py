"""The sentences of a decision: the verdict, what would change our mind, and what it leans on."""

from collections.abc import Sequence
from datetime import date, datetime

from slipway.config.settings import DecideSettings
from slipway.decide.breakeven import FEWEST, MOST, flip_hourly
from slipway.decide.roads import Api, Basis, Candidate, Hosted, stale
from slipway.decide.sensitivity import WORDS, Flip
from slipway.domain.decision import Sensitivity
from slipway.domain.deployment import BreakEven, Demand, Option
from slipway.domain.hardware import HardwarePrice
from slipway.models.hardware import Rent

NEAREST = 3
FLIPS = {
    "volume": ("Traffic", "what is stated"),
    "api_price": ("Price of tokens", "today's"),
    "rent": ("Rent", "the hour reckoned with"),
    "staff": ("People", "those assumed"),
    "throughput": ("Throughput", "the predicted"),
    "growth": ("Growth", "the yearly growth stated"),
}


def say_verdict(
    chosen: Option | None,
    options: Sequence[Option],
    breakevens: Sequence[BreakEven],
    demand: Demand,
    sensitivity: Sensitivity | None,
) -> str:
    """The recommendation in one sentence, or the nearest misses."""
    if chosen is None:
        # What would work but may not be taken is nearer than what cannot run at all.
        nearest = sorted(options, key=lambda option: (not option.lines, option.horizon_total))[:NEAREST]
        misses = "; ".join(f"{option.name}: {option.rejected}" for option in nearest)
        return f"Nothing meets the requirement. Nearest: {misses}"
    volume = f"{demand.requests_per_day:,.0f} requests a day"
    sentence = f"Take {chosen.name}: about {dollars(chosen.monthly)} a month at {volume}"
    others = [option for option in options if option is not chosen and not option.rejected]
    allowed = {option.name for option in others}
    near = [one for one in breakevens if _other(one, chosen) in allowed]
    if not near:
        elsewhere = next((option for option in others if option.road != chosen.road), None)
        return f"{sentence}; {elsewhere.name} would cost {dollars(elsewhere.monthly)}." if elsewhere else f"{sentence}."
    one = min(near, key=lambda found: found.requests_per_day)
    side = "above" if one.cheaper_below == chosen.name else "below"
    if one.low <= demand.requests_per_day <= one.high:
        return f"{sentence}; {_other(one, chosen)} is too close to call, the costs cross at {_crossing(one)}."
    return f"{sentence}; {_other(one, chosen)} costs less {side} {_crossing(one)}."


def say_confidence(chosen: str, sensitivity: Sensitivity | None) -> str:
    """How often the recommended option is the cheapest of those allowed, and which other one is."""
    if sensitivity is None or not chosen:
        return "none: no option is left"
    mine = next((one for one in sensitivity.options if one.option == chosen), None)
    others = sorted(
        (one for one in sensitivity.options if one.option != chosen and one.cheapest >= 0.005),
        key=lambda one: -one.cheapest,
    )
    rest = "; ".join(f"{one.option} in {one.cheapest:.0%}" for one in others[:2])
    share = mine.cheapest if mine else 0.0
    return f"cheapest in {share:.0%} of {sensitivity.draws:,} futures{f'; {rest}' if rest else ''}"


def say_flips(
    chosen: Option | None,
    options: Sequence[tuple[Option, Candidate]],
    breakevens: Sequence[BreakEven],
    demand: Demand,
    basis: Basis,
    rent: Rent | None,
    horizon: Sequence[Flip],
    sensitivity: Sensitivity | None = None,
) -> list[str]:
    """What would change our mind, each with the number at which it does. `options` are in order, cheapest first."""
    allowed = [(option, candidate) for option, candidate in options if not option.rejected]
    cheaper = [option for option, _ in options if option.rejected and option.lines]
    found = [
        f"Constraint: {option.name} would cost {dollars(option.monthly)} a month, but {option.rejected}."
        for option in sorted(cheaper, key=lambda option: option.horizon_total)[:2]
        if chosen is None or option.horizon_total < chosen.horizon_total
    ]
    if chosen is None:
        return [*found, "Loosen what rules out the nearest option, then decide again: slipway decide run"]
    names = {option.name for option, _ in allowed}
    found += [
        f"Volume: {one.cheaper_above} costs less than {one.cheaper_below} above {_crossing(one)}."
        for one in breakevens
        if _other(one, chosen) in names
    ]
    mine = next(candidate for option, candidate in allowed if option is chosen)
    if chosen.road == "api":
        found += [
            _device_flip(option, flip_hourly(mine, candidate, demand, basis), basis)
            for option, candidate in allowed
            if isinstance(candidate, Hosted) and candidate.commitment == "on demand" and not candidate.scaled
        ]
        kept = next((option for option, candidate in allowed if candidate.road != "api"), None)
        rest = f"{kept.name} remains, at {dollars(kept.monthly)} a month" if kept else "nothing remains"
        found.append(f"Privacy: if requests may no longer leave (data_may_leave = false), {rest}.")
    found += [_horizon_flip(flip, demand, sensitivity) for flip in horizon]
    found.append("Quality: a cheaper model that answers your own questions as well. Compare: slipway evaluate run.")
    if rent is not None and rent.low < rent.high and any(isinstance(candidate, Hosted) for _, candidate in options):
        found.append(
            f"Your own price: published rents run from ${rent.low:.2f} to ${rent.high:.2f} an hour. "
            "Set [decide] gpu_hourly to what you are offered."
        )
    return found


def _horizon_flip(flip: Flip, demand: Demand, sensitivity: Sensitivity | None) -> str:
    what, of = FLIPS[flip.name]
    side = "above" if flip.factor > 1 else "below"
    figure = f" ({rounded(demand.requests_per_day * flip.factor)} requests a day)" if flip.name == "volume" else ""
    sentence = (
        f"{what}: {side} {flip.factor:.2g} times {of}{figure}, {flip.option} costs less over {demand.horizon_months} "
        "months."
    )
    drivers = sensitivity.drivers if sensitivity is not None else ()
    error = next((one for one in drivers if one.what == WORDS["throughput"]), None)
    if flip.name == "throughput" and error is not None and error.low <= flip.factor <= error.high:
        sentence += (
            " That lies inside the error of the prediction: measure four points first, slipway deploy calibrate."
        )
    return sentence


def _device_flip(option: Option, hourly: float | None, basis: Basis) -> str:
    if hourly is None:
        return (
            f"Price of a device: at this volume not even free accelerators make {option.name} cheaper; its people "
            "alone cost more."
        )
    return f"Price of a device: below ${hourly:.2f} an hour (now ${basis.hourly:.2f}) {option.name} costs less."


def _other(one: BreakEven, chosen: Option) -> str:
    """The other side of a break-even that the chosen option is part of, or nothing."""
    pair = (one.cheaper_below, one.cheaper_above)
    if chosen.name not in pair:
        return ""
    return pair[1] if pair[0] == chosen.name else pair[0]


def list_assumptions(
    demand: Demand,
    settings: DecideSettings,
    rent: Rent | None,
    bought: HardwarePrice | None,
    basis: Basis,
    candidates: Sequence[Candidate],
    *,
    now: datetime,
) -> tuple[tuple[str, str, str], ...]:
    """(what, value, source with date) of everything that a decision leans on; what is old or disputed says so."""
    source = f"measured: {demand.traffic.source}" if demand.traffic is not None else "[decide]"
    listed = [
        ("Requests a day", f"{demand.requests_per_day:,.0f}", source),
        ("Busiest minute", f"{demand.peak_factor:.3g} times the mean", source),
        ("Tokens a request", f"{demand.input_tokens:,.0f} in, {demand.output_tokens:,.0f} out", source),
        ("Horizon", f"{demand.horizon_months} months, traffic x {demand.growth_per_year:g} a year", "[decide]"),
    ]
    if demand.traffic is not None and demand.traffic.split_assumed:
        listed.append(("Share of output in the tokens", "assumed", "the trace does not tell it; output_share"))
    today = now.date()
    listed += [
        (
            f"Price of {one.model}",
            f"${one.price.input_per_million:g} in, ${one.price.output_per_million:g} out a million tokens",
            "; ".join([f"{one.price.source}, {one.price.as_of}{_age(one.price.as_of, today)}", *one.flags]),
        )
        for one in candidates
        if isinstance(one, Api)
    ]
    if rent is not None and settings.open_models:
        dated = f"{rent.source}, {rent.as_of}{_age(rent.as_of, today)}" if rent.as_of else rent.source
        listed.append(
            (f"One hour of one {settings.gpu}", f"${rent.hourly:.2f} (${rent.low:.2f} to ${rent.high:.2f})", dated)
        )
        agreed = {one.commitment: one.reserved for one in candidates if isinstance(one, Hosted) and one.reserved}
        for commitment, price in agreed.items():
            when = f", {price.as_of}{_age(price.as_of, today)}" if price.as_of else ""
            listed.append(
                (f"One {commitment} hour of one {settings.gpu}", f"${price.hourly:.2f}", f"{price.source}{when}")
            )
        if bought is not None:
            listed.append(
                (
                    f"Purchase of one {settings.gpu}",
                    f"${bought.purchase:,.0f}",
                    f"{bought.seller}, {bought.source}, {bought.as_of}{_age(bought.as_of, today)}",
                )
            )
    low, high = basis.assumptions.safe_range
    listed.append(
        (
            "Band of the break-even",
            f"device price, safe use {100 * low:.0f}-{100 * high:.0f} %, lengths x 0.7-1.4",
            "every combination of the three",
        )
    )
    return (*listed, *basis.assumptions.listed())


def _age(as_of: date | None, today: date) -> str:
    return "; older than six months, ask for a quote" if stale(as_of, today) else ""


def _crossing(one: BreakEven) -> str:
    """`388,000 requests a day (258,000 to 1,200,000)`, in words where the band leaves what was looked at."""
    low = "from the first one" if one.low <= FEWEST else rounded(one.low)
    high = "never" if one.high >= MOST else rounded(one.high)
    return f"{rounded(one.requests_per_day)} requests a day ({low} to {high})"


def rounded(amount: float) -> str:
    """A number to three figures, as a reader rounds it."""
    digits = len(f"{amount:.0f}") - 3
    return f"{round(amount, -digits) if digits > 0 else amount:,.0f}"


def dollars(amount: float) -> str:
    """Dollars to three figures."""
    return f"${rounded(amount)}" if amount >= 10 else f"${amount:.2f}"
