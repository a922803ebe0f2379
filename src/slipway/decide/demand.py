"""What the use case asks for: read from [decide], missing answers named, contradictions refused."""

from math import ceil, isfinite

import msgspec

from slipway.config.settings import DecideSettings
from slipway.domain.decision import Traffic
from slipway.domain.deployment import Demand
from slipway.domain.errors import RequirementContradiction, RequirementMissing

NEEDED = ("requests_per_day", "input_tokens", "output_tokens")


NETWORK_MS = 0.5
"""Milliseconds that a request and its first token need on the way inside one data centre: no machine is faster."""
API_FLOOR_MS = 50.0
"""Milliseconds below which no commercial API answers from outside: two ways through the internet and its gateway."""


def read_demand(settings: DecideSettings, *, traffic: Traffic | None = None) -> Demand:
    """The demand of the application; the numbers of a trace go before those of [decide].

    Raises `RequirementMissing` or `RequirementContradiction`.
    """
    if traffic is not None:
        settings = with_traffic(settings, traffic)
    missing = [name for name in NEEDED if getattr(settings, name) is None]
    if missing:
        raise RequirementMissing(missing, table="decide")
    demand = Demand(
        requests_per_day=settings.requests_per_day or 0.0,
        input_tokens=settings.input_tokens or 0.0,
        output_tokens=settings.output_tokens or 0.0,
        peak_factor=settings.peak_factor,
        first_token_ms=settings.first_token_ms,
        end_to_end_ms=settings.end_to_end_ms,
        context_tokens=settings.context_tokens,
        residency=settings.residency,
        data_may_leave=settings.data_may_leave,
        commercial_use=settings.commercial_use,
        monthly_budget=settings.monthly_budget,
        horizon_months=settings.horizon_months,
        growth_per_year=settings.growth_per_year,
        cached_share=settings.cached_share,
        skills=settings.skills,
        batch_share=settings.batch_share,
        monthly_users=settings.monthly_users,
        trains_on_output=settings.trains_on_output,
        quality_needed=settings.quality_needed,
        tuning_tokens=settings.tuning_tokens,
        data_cost=settings.data_cost,
        traffic=traffic,
    )
    check_demand(demand, api_models=settings.api_models, open_models=settings.open_models)
    return demand


def with_traffic(settings: DecideSettings, traffic: Traffic) -> DecideSettings:
    """[decide] with the rate, the lengths and the peak that a trace shows, and a context that holds its longest."""
    longest = traffic.long_input_tokens + traffic.long_output_tokens
    return msgspec.structs.replace(
        settings,
        requests_per_day=traffic.requests_per_day,
        input_tokens=traffic.input_tokens,
        output_tokens=traffic.output_tokens,
        peak_factor=traffic.peak_factor,
        context_tokens=max(settings.context_tokens, ceil(longest)),
    )


def check_demand(demand: Demand, *, api_models: list[str], open_models: list[str]) -> None:
    """Refuses a demand that nothing could meet, and says which two answers exclude each other.

    Raises `RequirementContradiction`.
    """
    for name in ("requests_per_day", "input_tokens", "output_tokens", "peak_factor", "growth_per_year"):
        value = getattr(demand, name)
        if not isfinite(value) or value <= 0:
            raise RequirementContradiction(f"[decide] {name} = {value:g}: give a number above 0.")
    for name in ("first_token_ms", "end_to_end_ms", "monthly_budget"):
        value = getattr(demand, name)
        if value is not None and (not isfinite(value) or value <= 0):
            raise RequirementContradiction(f"[decide] {name} = {value:g}: give a number above 0, or leave it out.")
    if demand.peak_factor < 1:
        raise RequirementContradiction(
            f"[decide] peak_factor = {demand.peak_factor:g}: the busiest minute cannot be quieter than the mean. "
            "Give 1 or more."
        )
    if demand.first_token_ms and demand.end_to_end_ms and demand.first_token_ms > demand.end_to_end_ms:
        raise RequirementContradiction(
            f"[decide] first_token_ms = {demand.first_token_ms:g} is longer than end_to_end_ms = "
            f"{demand.end_to_end_ms:g}: the first token comes before the whole answer. Correct one of them."
        )
    limits = [value for value in (demand.first_token_ms, demand.end_to_end_ms) if value is not None]
    if limits and min(limits) < NETWORK_MS:
        raise RequirementContradiction(
            f"[decide] a limit of {min(limits):g} ms is below the {NETWORK_MS:g} ms that the network alone takes. "
            "Correct first_token_ms or end_to_end_ms."
        )
    if limits and min(limits) < API_FLOOR_MS and not open_models:
        raise RequirementContradiction(
            f"[decide] no commercial API answers within {min(limits):g} ms from outside (the way alone takes about "
            f"{API_FLOOR_MS:g}), and open_models is empty. Name an open model, or loosen the limit."
        )
    if demand.batch_share >= 1 and limits:
        raise RequirementContradiction(
            "[decide] batch_share = 1 lets every request wait a day, but first_token_ms or end_to_end_ms limits the "
            "wait. Remove one of them."
        )
    if demand.tuning_tokens and not open_models:
        raise RequirementContradiction(
            "[decide] tuning_tokens is set, but open_models is empty: there is nothing to tune. Name an open model."
        )
    if demand.input_tokens + demand.output_tokens > demand.context_tokens:
        raise RequirementContradiction(
            f"[decide] a mean request of {demand.input_tokens:g} + {demand.output_tokens:g} tokens does not fit into "
            f"context_tokens = {demand.context_tokens}. Raise context_tokens, or correct the lengths."
        )
    if not api_models and not open_models:
        raise RequirementContradiction(
            "[decide] api_models and open_models are both empty: name at least one model to compare."
        )
    if not demand.data_may_leave and not open_models:
        raise RequirementContradiction(
            "[decide] data_may_leave = false excludes every model of api_models, and open_models is empty. "
            'Name an open model, for example open_models = ["llama-3.1-8b"].'
        )
