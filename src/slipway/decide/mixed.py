"""Roads that use two: machines for the base and an API for the peaks, or the API first and machines later."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from slipway.decide.costs import DAYS_A_MONTH, Bill
from slipway.decide.roads import (
    Api,
    Basis,
    Hosted,
    cheapest_replica,
    levels,
    levels_source,
    people_line,
    rented_line,
    tuning_lines,
)
from slipway.decide.terms import BASE_SHARES, Mix, Phase, one_future, overflow_share, switch_months
from slipway.domain.deployment import CostLine, Demand, Road
from slipway.models.sizing import DAY_S, Replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """Machines for the base, an API for what comes in over it."""

    api: Api
    hosted: Hosted
    road: Road = "mixed"

    @property
    def model(self) -> str:
        return f"{self.hosted.model} and {self.api.model}"

    @property
    def name(self) -> str:
        return f"{self.hosted.name} for the base, {self.api.model} for peaks"

    def bill(self, demand: Demand, basis: Basis) -> Bill:
        hosted, safe = self.hosted, basis.assumptions.safe
        replica, full = cheapest_replica(hosted.shape, hosted.hardware, demand, safe, hosted.calibration)
        counts = sorted({max(1, ceil(full * share)) for share in BASE_SHARES})
        bills = [self._bill(demand, basis, replica, count) for count in counts]
        return min(bills, key=lambda bill: bill.monthly)

    def _bill(self, demand: Demand, basis: Basis, replica: Replica, count: int) -> Bill:
        carried = count * replica.requests_per_second * basis.assumptions.safe / (demand.requests_per_day / DAY_S)
        share = float(overflow_share(levels(demand), np.array([carried]))[0])
        tokens = self.api.terms(demand, basis).per_request * demand.requests_per_day * DAYS_A_MONTH * share
        tuning, upfront = tuning_lines(self.hosted.shape, self.hosted.hardware, demand, basis)
        hourly, rent = self.hosted.agreed_hourly(basis)
        return Bill(
            lines=(
                *tuning,
                rented_line(replica, count, rent, hourly),
                CostLine(
                    name="Tokens of the peaks",
                    monthly=tokens,
                    formula=f"{share:.1%} of requests come in over what {count} replicas carry, at the API's price",
                    source=f"{self.api.price.source}, {self.api.price.as_of}; {levels_source(demand)}",
                ),
                self.api.evaluation_line(demand, basis),
                people_line(basis.assumptions.people_hosting + basis.assumptions.people_api, basis.assumptions),
            ),
            upfront=upfront,
        )

    def terms(self, demand: Demand, basis: Basis) -> Mix:
        return Mix(api=self.api.terms(demand, basis), hosted=self.hosted.terms(demand, basis), levels=levels(demand))


@dataclass(frozen=True, slots=True, kw_only=True)
class Phased:
    """The API first, machines from the month in which moving pays."""

    api: Api
    hosted: Hosted
    moving_months: float
    road: Road = "mixed"

    @property
    def model(self) -> str:
        return f"{self.api.model}, then {self.hosted.model}"

    @property
    def name(self) -> str:
        return f"{self.api.name}, then {self.hosted.name}"

    def bill(self, demand: Demand, basis: Basis) -> Bill:
        """The first month, which is the API's."""
        return self.api.bill(demand, basis)

    def terms(self, demand: Demand, basis: Basis) -> Phase:
        return Phase(
            api=self.api.terms(demand, basis),
            hosted=self.hosted.terms(demand, basis),
            moving_months=self.moving_months,
        )

    def switch_month(self, demand: Demand, basis: Basis) -> int:
        """The month of the move in the central future; the horizon where it never pays."""
        terms, future = self.terms(demand, basis), one_future(demand, basis.assumptions)
        return int(switch_months(terms, demand, future, basis.assumptions, basis.horizon_months)[0])
