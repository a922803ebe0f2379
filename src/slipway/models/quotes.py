"""What a commercial model costs for a decision: the own price first, then the list, set beside a second source."""

import re
from dataclasses import dataclass
from datetime import date

from slipway.domain.model import Price
from slipway.models.catalog import batch_factor_of, context_of, price_of
from slipway.models.own_prices import NOTHING_OWN, OwnPrices

AGREE = 0.01
"""Relative difference up to which two sources say the same."""
DAY = re.compile(r"-\d{4}-?\d{2}-?\d{2}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A price with what is worth knowing about it. `batch` is the batch price over the normal one, None without."""

    model: str
    price: Price
    batch: float | None = None
    context: int | None = None
    flags: tuple[str, ...] = ()


def quote(name: str, *, today: date, input_tokens: float = 0.0, own: OwnPrices = NOTHING_OWN) -> Quote | None:
    """The price of `provider/model`, or None when nobody is known to sell it.

    `input_tokens` is the mean length of a request, for models that charge more for long contexts. A flag says when the
    second source of `own` disagrees with the list by more than 1 %.
    """
    provider, slash, model = name.partition("/")
    if name in own.models:
        mine = own.models[name]
        price = Price(
            input_per_million=mine.input,
            output_per_million=mine.output,
            cached_input_per_million=mine.cached_input,
            source=f"{own.file}: {mine.source}",
            as_of=mine.as_of,
        )
        return Quote(model=name, price=price, batch=mine.batch, context=context_of(provider, model))
    listed = price_of(provider, model, at=today, input_tokens=input_tokens) if slash else None
    if listed is None:
        return None
    second = own.second.get(name) or own.second.get(DAY.sub("", name))
    flags = []
    if second is not None and not input_tokens > LONG:
        ours = (listed.input_per_million, listed.output_per_million)
        if any(abs(a - b) > AGREE * max(a, b) for a, b in zip(ours, (second.input, second.output), strict=True)):
            flags.append(
                f"sources disagree: {second.source} of {second.as_of} says ${second.input:g} in and "
                f"${second.output:g} out a million; look at the provider's page"
            )
    batch = second.batch if second is not None and second.batch is not None else batch_factor_of(provider)
    return Quote(model=name, price=listed, batch=batch, context=context_of(provider, model), flags=tuple(flags))


LONG = 100_000
"""Tokens from which providers charge for long contexts at the earliest; the second list has base prices only."""
