"""Which price of an accelerator a decision reckons with: one's own first, then the dated ones."""

from dataclasses import replace
from pathlib import Path

from slipway.config.settings import DecideSettings
from slipway.domain.hardware import HardwarePrice
from slipway.models.hardware import Rent, list_prices, purchase_of, rent_of
from slipway.models.own_prices import OwnPrices, read_own_prices


def own_prices(settings: DecideSettings, *, folder: Path) -> OwnPrices:
    """The user's file of prices that [decide] names; nothing where there is none. Raises `FileBroken`."""
    return read_own_prices(folder / settings.prices)


def rent_for(settings: DecideSettings, own: OwnPrices) -> Rent | None:
    """An hour on demand: [decide] gpu_hourly, else the own file, else the median of the published ones."""
    mine = own.hardware.get(settings.gpu)
    if settings.gpu_hourly is None and mine is not None and mine.on_demand is not None:
        return Rent(
            hourly=mine.on_demand,
            low=mine.on_demand,
            high=mine.on_demand,
            source=f"{own.file}: {mine.source}",
            as_of=mine.as_of,
        )
    return rent_of(settings.gpu, own_hourly=settings.gpu_hourly)


def reserved_for(settings: DecideSettings, own: OwnPrices, rent: Rent) -> Rent | None:
    """An hour reserved for the horizon, where one is known that costs less than on demand.

    Own first; else the cheapest published price of one year, or of three for a horizon of three years or more.
    """
    if settings.gpu_reserved_hourly is not None:
        fixed = settings.gpu_reserved_hourly
        return Rent(hourly=fixed, low=fixed, high=fixed, source="[decide] gpu_reserved_hourly", as_of=None)
    years = 3 if settings.horizon_months >= 36 else 1
    mine = own.hardware.get(settings.gpu)
    if mine is not None:
        agreed = mine.three_years if years == 3 else mine.one_year
        if agreed is not None:
            return Rent(hourly=agreed, low=agreed, high=agreed, source=f"{own.file}: {mine.source}", as_of=mine.as_of)
    if settings.gpu_hourly is not None or mine is not None:
        # Another seller's reservation says nothing about one's own offer.
        return None
    listed = [
        (price, one)
        for one in list_prices()
        if one.hardware == settings.gpu and (price := one.three_years if years == 3 else one.one_year) is not None
    ]
    if not listed:
        return None
    price, cheapest = min(listed, key=lambda pair: pair[0])
    if price >= rent.hourly:
        return None
    source = f"{cheapest.seller}, {years} years reserved; {cheapest.source}"
    return replace(rent, hourly=price, low=price, high=price, source=source, as_of=cheapest.as_of)


def spot_for(settings: DecideSettings, own: OwnPrices) -> Rent | None:
    """One's own price of an hour that may end at any time; None takes the usual share of the hour on demand."""
    mine = own.hardware.get(settings.gpu)
    if mine is None or mine.spot is None:
        return None
    return Rent(hourly=mine.spot, low=mine.spot, high=mine.spot, source=f"{own.file}: {mine.source}", as_of=mine.as_of)


def purchase_for(settings: DecideSettings, own: OwnPrices) -> HardwarePrice | None:
    """What buying one costs: own first, else the newest published price."""
    mine = own.hardware.get(settings.gpu)
    if mine is not None and mine.purchase is not None:
        return HardwarePrice(
            hardware=settings.gpu,
            seller=own.file,
            purchase=mine.purchase,
            as_of=mine.as_of,
            source=mine.source,
        )
    return purchase_of(settings.gpu)
