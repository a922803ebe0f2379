"""The options of a decision: every road with every model named, ruled out where a hard constraint says so."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from slipway.config.settings import DecideSettings
from slipway.decide.front import CONTROL as CONTROL_ORDER
from slipway.decide.mixed import Mixed, Phased
from slipway.decide.rents import own_prices, purchase_for, rent_for, reserved_for, spot_for
from slipway.decide.roads import (
    Api,
    Basis,
    Built,
    Candidate,
    Hosted,
    Owned,
    by_hour,
    cheapest_replica,
    horizon_total,
    sized,
)
from slipway.decide.serving import origin_of_way
from slipway.domain.architecture import Architecture
from slipway.domain.deployment import Demand, Option, PlanOption
from slipway.domain.errors import NotFound, RequirementMissing
from slipway.models.architectures import find_model
from slipway.models.calibrations import OWN_FILE, Calibration, calibration_in
from slipway.models.hardware import find_hardware
from slipway.models.own_prices import OwnPrices
from slipway.models.quotes import quote

MONTHS_TO_START = {"none": 3.0, "some": 2.0, "strong": 1.0}
"""Until a team of that experience serves an open model well. Estimates."""
MONTHS_TO_BUY = 3.0
CONTROL = {
    "api": "The provider holds the model, its filters and its end of life; weights cannot be looked into.",
    "open": "Weights, filters and versions are ours; nothing changes unless we change it.",
    "build": "Everything is ours, down to the training data.",
    "mixed": "The provider holds one of the two models; moving between them stays possible.",
}
RISK = {
    "api": "Prices, limits and versions change from outside; an outage of the provider is ours.",
    "open": "We answer for capacity, updates and nights on call; idle hours are paid.",
    "build": "Most of the money is spent before anyone knows how good the model is.",
    "mixed": "Two models answer: both have to be evaluated, watched and kept in step.",
}


def list_candidates(
    demand: Demand,
    settings: DecideSettings,
    *,
    folder: Path,
    own: OwnPrices | None = None,
    today: date | None = None,
) -> list[Candidate]:
    """Every road with every model that [decide] names; mixed and phased ones follow from them (`combine`).

    Own prices are read from the file that [decide] names, unless given. Raises `NotFound` for a model that nobody sells
    or that the catalogue does not know, `RequirementMissing` when open models are named and neither a published nor an
    own price of the hardware is there, `FileBroken` for a file of own prices that cannot be read.
    """
    own = own_prices(settings, folder=folder) if own is None else own
    day = today or datetime.now(UTC).date()
    found: list[Candidate] = [_api(name, demand, own, day) for name in settings.api_models]
    if not settings.open_models:
        return found
    hardware = find_hardware(settings.gpu).name
    rent = rent_for(settings, own)
    if rent is None:
        raise RequirementMissing(["gpu_hourly"], table="decide")
    shapes = [_shape(name, folder, own) for name in settings.open_models]
    measured = _own_calibration(folder)
    found += [Hosted(shape=shape, hardware=hardware, rent=rent, calibration=measured) for shape in shapes]
    if by_hour(demand):
        found += [
            Hosted(shape=shape, hardware=hardware, rent=rent, scaled=True, calibration=measured) for shape in shapes
        ]
    reserved = reserved_for(settings, own, rent)
    if reserved is not None:
        found += [
            Hosted(
                shape=shape,
                hardware=hardware,
                rent=rent,
                commitment="reserved",
                reserved=reserved,
                calibration=measured,
            )
            for shape in shapes
        ]
    if demand.batch_share >= 1:
        spot = spot_for(settings, own)
        found += [
            Hosted(shape=shape, hardware=hardware, rent=rent, commitment="spot", reserved=spot, calibration=measured)
            for shape in shapes
        ]
    purchase = purchase_for(settings, own)
    if purchase is not None:
        found += [Owned(shape=shape, hardware=hardware, purchase=purchase, calibration=measured) for shape in shapes]
    found.append(Built(shape=shapes[0], hardware=hardware, rent=rent, calibration=measured))
    return found


def combine(candidates: Sequence[Candidate], demand: Demand, basis: Basis) -> list[Candidate]:
    """The mixed and the phased road of the cheapest API and the cheapest way to host, where they are roads of their
    own: machines for the base only where the peak needs more than one replica, moving only where it pays within the
    horizon."""
    apis = [one for one in candidates if isinstance(one, Api) and not _impossible(one, demand)]
    hosts = [
        one
        for one in candidates
        if isinstance(one, Hosted) and one.commitment != "spot" and not one.scaled and not _impossible(one, demand)
    ]
    if not apis or not hosts:
        return []
    api = min(apis, key=lambda one: horizon_total(one, demand, basis))
    host = min(hosts, key=lambda one: horizon_total(one, demand, basis))
    found: list[Candidate] = []
    if cheapest_replica(host.shape, host.hardware, demand, basis.assumptions.safe, host.calibration)[1] > 1:
        found.append(Mixed(api=api, hosted=host))
    phased = Phased(api=api, hosted=host, moving_months=MONTHS_TO_START[demand.skills])
    if 0 < phased.switch_month(demand, basis) < basis.horizon_months:
        found.append(phased)
    return found


def make_option(candidate: Candidate, demand: Demand, basis: Basis, *, quality: Mapping[str, float]) -> Option:
    """A candidate with its bill, its cost over the horizon, and the reason that rules it out, if one does.

    `quality` are scores on own questions by model; a road with two models is as good as the weaker one.
    """
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
    total = horizon_total(candidate, demand, basis)
    score = _quality(candidate, quality)
    criteria = {
        "cost": total,
        "time": option.months_to_start,
        "control": CONTROL_ORDER[candidate.road],
        "risk": bill.upfront,
    }
    properties = dict(option.properties)
    if score is not None:
        criteria["quality"] = score
        properties["quality"] = f"{score:.3g} on your own questions"
    if isinstance(candidate, Phased):
        month = candidate.switch_month(demand, basis)
        properties["move"] = f"to machines in month {month + 1}, when traffic and prices go as stated"
    option = replace(
        option,
        monthly=bill.monthly,
        upfront=bill.upfront,
        lines=bill.lines,
        horizon_total=total,
        horizon_low=total,
        horizon_high=total,
        criteria=criteria,
        properties=properties,
        plan=_plan(candidate, demand, basis),
    )
    return replace(option, rejected=_forbidden(candidate, demand, option, basis))


def _own_calibration(folder: Path) -> Calibration | None:
    """The application's own measurements over the shipped ones; None where it has none."""
    return calibration_in(folder) if (folder / OWN_FILE).is_file() else None


def _shape(name: str, folder: Path, own: OwnPrices) -> Architecture:
    shape = find_model(name, folder=folder)
    licence = own.licences.get(name) or own.licences.get(shape.name)
    return replace(shape, licence=licence) if licence is not None else shape


def _api(name: str, demand: Demand, own: OwnPrices, today: date) -> Api:
    found = quote(name, today=today, input_tokens=demand.input_tokens, own=own)
    if found is None:
        raise NotFound(
            "price for",
            name,
            next_step='Write it as provider/model, as in [decide] api_models = ["openai/gpt-5-mini"].',
        )
    provider = name.partition("/")[0]
    return Api(
        model=name, provider=provider, price=found.price, context=found.context, batch=found.batch, flags=found.flags
    )


def _quality(candidate: Candidate, scores: Mapping[str, float]) -> float | None:
    if isinstance(candidate, Mixed | Phased):
        parts = [scores.get(candidate.api.model), scores.get(candidate.hosted.model)]
        known = [score for score in parts if score is not None]
        return min(known) if len(known) == len(parts) else None
    return scores.get(candidate.model)


def _plan(candidate: Candidate, demand: Demand, basis: Basis) -> PlanOption | None:
    """The machines of launch, with their memory and latency; None for an API, and for a road that starts with one."""
    if isinstance(candidate, Mixed):
        candidate = candidate.hosted
    if not isinstance(candidate, Hosted | Owned | Built):
        return None
    safe = basis.assumptions.safe
    replica, _ = cheapest_replica(candidate.shape, candidate.hardware, demand, safe, candidate.calibration)
    return replace(replica.option(demand, hourly=basis.hourly, safe=safe), origin=origin_of_way(replica))


def _parts(candidate: Candidate) -> tuple[Candidate, ...]:
    return (candidate.api, candidate.hosted) if isinstance(candidate, Mixed | Phased) else (candidate,)


def _impossible(candidate: Candidate, demand: Demand) -> str:
    """Why no bill can be written: the model does not fit the context, the memory or the latency."""
    if isinstance(candidate, Mixed | Phased):
        return next((reason for part in _parts(candidate) if (reason := _impossible(part, demand))), "")
    if isinstance(candidate, Api):
        if candidate.context is not None and candidate.context < demand.context_tokens:
            return f"its context of {candidate.context:,} tokens is shorter than {demand.context_tokens:,}"
        return ""
    if _fits(candidate, demand):
        return ""
    assert isinstance(candidate, Hosted | Owned | Built)
    misses = sized(candidate.shape, candidate.hardware, demand, candidate.calibration)
    # The last way tried is the largest split at the fewest bits: the nearest miss.
    return f"on {misses[-1].devices} {candidate.hardware}: {misses[-1].rejected}"


def _forbidden(candidate: Candidate, demand: Demand, option: Option, basis: Basis) -> str:
    """Why an option may not be taken although it would work."""
    for part in _parts(candidate):
        if reason := _illegal(part, demand):
            return reason
    if isinstance(candidate, Built) and demand.skills == "none":
        return 'training from scratch needs people who have done it, and skills = "none"'
    if option.months_to_start >= basis.horizon_months:
        return f"it starts after {option.months_to_start:g} months, and the horizon is {basis.horizon_months}"
    score = option.criteria.get("quality")
    if demand.quality_needed is not None and score is not None and score < demand.quality_needed:
        return f"it scores {score:.3g} on your own questions, and quality_needed = {demand.quality_needed:g}"
    if demand.monthly_budget is not None and option.monthly > demand.monthly_budget:
        return f"${option.monthly:,.0f} a month is over the budget of ${demand.monthly_budget:,.0f}"
    return ""


def _illegal(candidate: Candidate, demand: Demand) -> str:
    """Why privacy or the licence forbids a road with one model."""
    if isinstance(candidate, Api):
        if not demand.data_may_leave:
            return f"requests would be sent to {candidate.provider}, and data_may_leave = false"
        if demand.trains_on_output:
            return (
                f"{candidate.provider} forbids training competing models on answers (terms recalled, unverified), and "
                "trains_on_output = true"
            )
        return ""
    if not isinstance(candidate, Hosted | Owned) or candidate.shape.licence is None:
        return ""
    licence = candidate.shape.licence
    if demand.commercial_use and not licence.commercial:
        return f"its licence ({licence.name}) forbids commercial use"
    if demand.trains_on_output and licence.train_on_output == "forbidden":
        return f"its licence ({licence.name}) forbids training other models on answers, and trains_on_output = true"
    if licence.user_cap and demand.monthly_users and demand.monthly_users > licence.user_cap:
        return f"its licence ({licence.name}) asks for an agreement above {licence.user_cap:,} users a month"
    return ""


def _fits(candidate: Candidate, demand: Demand) -> bool:
    if isinstance(candidate, Mixed | Phased):
        return _fits(candidate.hosted, demand)
    if isinstance(candidate, Hosted | Owned | Built):
        return any(
            not one.rejected for one in sized(candidate.shape, candidate.hardware, demand, candidate.calibration)
        )
    return True


def _months_to_start(candidate: Candidate, demand: Demand, basis: Basis) -> float:
    if isinstance(candidate, Api | Phased):
        return 0.25
    hosting = MONTHS_TO_START[demand.skills]
    if isinstance(candidate, Owned):
        return hosting + MONTHS_TO_BUY
    return hosting + (basis.assumptions.build_months if isinstance(candidate, Built) else 0.0)


def _properties(candidate: Candidate, demand: Demand) -> dict[str, str]:
    """What cannot be put into dollars, in one phrase each."""
    found = {"risk": RISK[candidate.road], "quality": "not measured: evaluate it on your own questions"}
    if isinstance(candidate, Mixed | Phased):
        when = "in busy minutes" if isinstance(candidate, Mixed) else "until the move"
        found["data"] = f"requests go to {candidate.api.provider} {when}"
        found["context"] = "the shorter of both models"
        if candidate.hosted.shape.licence is not None:
            found["licence"] = f"terms of the provider; {_licence_words(candidate.hosted.shape)}"
        return found
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
    fitting = [one for one in sized(shape, candidate.hardware, demand, candidate.calibration) if not one.rejected]
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
    words.append(f"training on its answers {licence.train_on_output}")
    words.append("may be passed on" if licence.redistribute else "may not be passed on")
    if licence.checked == "own":
        words.append("from your own file")
    elif licence.text_sha256:
        words.append(f"text read {licence.checked_on}, sha256 {licence.text_sha256[:12]}")
    else:
        words.append("recalled, unverified")
    return "; ".join(words)
