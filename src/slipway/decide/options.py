"""The options of a decision: every road with every model named, ruled out where a hard constraint says so."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slipway.config.settings import DecideSettings
from slipway.decide.roads import Api, Basis, Built, Candidate, Hosted, Owned, horizon_total, sized
from slipway.domain.deployment import Demand, Option
from slipway.domain.errors import NotFound, RequirementMissing
from slipway.models.architectures import find_model
from slipway.models.catalog import context_of, price_of
from slipway.models.hardware import find_hardware, purchase_of, rent_of

MONTHS_TO_START = {"none": 3.0, "some": 2.0, "strong": 1.0}
"""Until a team of that experience serves an open model well. Estimates."""
MONTHS_TO_BUY = 3.0
CONTROL = {
    "api": "The provider holds the model, its filters and its end of life; weights cannot be looked into.",
    "open": "Weights, filters and versions are ours; nothing changes unless we change it.",
    "build": "Everything is ours, down to the training data.",
}
RISK = {
    "api": "Prices, limits and versions change from outside; an outage of the provider is ours.",
    "open": "We answer for capacity, updates and nights on call; idle hours are paid.",
    "build": "Most of the money is spent before anyone knows how good the model is.",
}


def list_candidates(demand: Demand, settings: DecideSettings, *, folder: Path) -> list[Candidate]:
    """Every road with every model that [decide] names.

    Raises `NotFound` for a model that nobody sells or that the catalogue does not know, `RequirementMissing` when
    open models are named and neither a published nor an own price of the hardware is there.
    """
    found: list[Candidate] = [_api(name) for name in settings.api_models]
    if not settings.open_models:
        return found
    hardware = find_hardware(settings.gpu).name
    rent = rent_of(hardware, own_hourly=settings.gpu_hourly)
    if rent is None:
        raise RequirementMissing(["gpu_hourly"], table="decide")
    shapes = [find_model(name, folder=folder) for name in settings.open_models]
    found += [Hosted(shape=shape, hardware=hardware, rent=rent) for shape in shapes]
    purchase = purchase_of(hardware)
    if purchase is not None:
        found += [Owned(shape=shape, hardware=hardware, purchase=purchase) for shape in shapes]
    found.append(Built(shape=shapes[0], hardware=hardware, rent=rent))
    return found


def make_option(candidate: Candidate, demand: Demand, basis: Basis, *, bases: Sequence[tuple[Demand, Basis]]) -> Option:
    """A candidate with its bill, its band over the given variations, and the reason that rules it out, if one does."""
    option = Option(
        road=candidate.road,
        name=candidate.name,
        model=candidate.model,
        monthly=0.0,
        upfront=0.0,
        lines=(),
        control=CONTROL[candidate.road],
        months_to_start=_months_to_start(candidate, demand, basis),
        properties=_properties(candidate, demand),
    )
    reason = _impossible(candidate, demand)
    if reason:
        return replace(option, rejected=reason)
    bill = candidate.bill(demand, basis)
    totals = [horizon_total(candidate, varied, other) for varied, other in bases if _fits(candidate, varied)]
    total = horizon_total(candidate, demand, basis)
    option = replace(
        option,
        monthly=bill.monthly,
        upfront=bill.upfront,
        lines=bill.lines,
        horizon_total=total,
        horizon_low=min([total, *totals]),
        horizon_high=max([total, *totals]),
    )
    return replace(option, rejected=_forbidden(candidate, demand, option))


def _api(name: str) -> Api:
    provider, _, model = name.partition("/")
    price = price_of(provider, model) if model else None
    if price is None:
        raise NotFound(
            "price for",
            name,
            next_step='Write it as provider/model, as in [decide] api_models = ["openai/gpt-5-mini"].',
        )
    return Api(model=name, provider=provider, price=price, context=context_of(provider, model))


def _impossible(candidate: Candidate, demand: Demand) -> str:
    """Why no bill can be written: the model does not fit the context, the memory or the latency."""
    if isinstance(candidate, Api):
        if candidate.context is not None and candidate.context < demand.context_tokens:
            return f"its context of {candidate.context:,} tokens is shorter than {demand.context_tokens:,}"
        return ""
    if _fits(candidate, demand):
        return ""
    assert isinstance(candidate, Hosted | Owned | Built)
    misses = sized(candidate.shape, candidate.hardware, demand)
    # The last way tried is the largest split at the fewest bits: the nearest miss.
    return f"on {misses[-1].devices} {candidate.hardware}: {misses[-1].rejected}"


def _forbidden(candidate: Candidate, demand: Demand, option: Option) -> str:
    """Why an option may not be taken although it would work."""
    if isinstance(candidate, Api) and not demand.data_may_leave:
        return f"requests would be sent to {candidate.provider}, and data_may_leave = false"
    if isinstance(candidate, Hosted | Owned):
        licence = candidate.shape.licence
        if licence is not None and demand.commercial_use and not licence.commercial:
            return f"its licence ({licence.name}) forbids commercial use"
    if isinstance(candidate, Built) and demand.skills == "none":
        return 'training from scratch needs people who have done it, and skills = "none"'
    if demand.monthly_budget is not None and option.monthly > demand.monthly_budget:
        return f"${option.monthly:,.0f} a month is over the budget of ${demand.monthly_budget:,.0f}"
    return ""


def _fits(candidate: Candidate, demand: Demand) -> bool:
    if isinstance(candidate, Hosted | Owned | Built):
        return any(not one.rejected for one in sized(candidate.shape, candidate.hardware, demand))
    return True


def _months_to_start(candidate: Candidate, demand: Demand, basis: Basis) -> float:
    if isinstance(candidate, Api):
        return 0.25
    hosting = MONTHS_TO_START[demand.skills]
    if isinstance(candidate, Owned):
        return hosting + MONTHS_TO_BUY
    return hosting + (basis.assumptions.build_months if isinstance(candidate, Built) else 0.0)


def _properties(candidate: Candidate, demand: Demand) -> dict[str, str]:
    """What cannot be put into dollars, in one phrase each."""
    found = {"risk": RISK[candidate.road], "quality": "not measured: evaluate it on your own questions"}
    if isinstance(candidate, Api):
        found["data"] = f"requests go to {candidate.provider}"
        found["latency"] = "not measured; depends on the provider"
        found["context"] = f"{candidate.context:,} tokens" if candidate.context else "not in the price list"
        found["licence"] = "terms of the provider"
        if demand.residency:
            found["residency"] = f"{demand.residency}: have the provider confirm it in the contract"
        return found
    assert isinstance(candidate, Hosted | Owned | Built)
    shape = candidate.shape
    found["data"] = "requests stay with us" if isinstance(candidate, Owned) else "requests stay in our cloud account"
    found["context"] = f"{shape.context:,} tokens"
    if demand.residency:
        found["residency"] = f"{demand.residency}: choose the data centre accordingly"
    if isinstance(candidate, Built):
        found["licence"] = "our own"
    elif shape.licence is not None:
        found["licence"] = _licence_words(shape)
    fitting = [one for one in sized(shape, candidate.hardware, demand) if not one.rejected]
    if fitting:
        first = min(one.first_token_s for one in fitting)
        found["latency"] = f"first token within {1e3 * first:,.0f} ms at best (99th percentile, estimated by roofline)"
    return found


def _licence_words(shape: object) -> str:
    licence = getattr(shape, "licence", None)
    if licence is None:
        return "unknown"
    words = [licence.name, "commercial use allowed" if licence.commercial else "no commercial use"]
    if licence.user_cap:
        words.append(f"up to {licence.user_cap / 1e6:,.0f} million users a month")
    words += [text for text in (licence.attribution, licence.restrictions) if text]
    return "; ".join(words)
