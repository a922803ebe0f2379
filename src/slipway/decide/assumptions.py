"""The numbers a decision leans on besides prices: each with its value and where it comes from."""

from dataclasses import dataclass, replace
from typing import Literal

from slipway.config.settings import DecideSettings
from slipway.domain.decision import Traffic
from slipway.models.sizing import SAFE_UTILISATION

Skills = Literal["none", "some", "strong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What is assumed where the team gave no number. People are full-time engineers, money is dollars."""

    engineer_monthly: float = 12_000.0
    people_api: float = 0.1
    people_hosting: float = 0.5
    people_own: float = 0.25
    """On top of hosting, for machines of one's own."""
    safe: float = SAFE_UTILISATION
    safe_range: tuple[float, float] = (0.45, 0.85)
    safe_source: str = "Azure conversation trace 2023, replayed: 1.44 / 2.2"
    rack_factor: float = 1.5
    pue: float = 1.5
    kwh: float = 0.15
    kw_space: float = 150.0
    tokens_per_parameter: float = 20.0
    experiments: float = 2.0
    builders: float = 4.0
    build_months: float = 9.0
    staff_share: float = 0.38
    """Of the whole development of a large model; a build option that leaves people out understates it by so much."""
    api_fall: float = 1.73
    """By what factor the price of what is bought by the token falls a year, once one moves on to newer models."""
    rent_fall: float = 0.15
    """Share by which rents of accelerators fall a year."""
    spot_share: float = 0.42
    evaluation_requests: float = 5_000.0
    """Requests a month that evaluations send: ten runs of a suite of 500 questions."""

    def listed(self) -> tuple[tuple[str, str, str], ...]:
        """(what, value, source) of each, for the record."""
        return (
            ("Cost of an engineer a month", f"${self.engineer_monthly:,.0f}", "[decide] engineer_monthly"),
            ("Engineers for an API", f"{self.people_api:g}", "estimate: keys, updates, incidents"),
            (
                "Engineers for hosting",
                f"{self.people_hosting:g}",
                "estimate by [decide] skills: none 1, some 0.5, strong 0.25",
            ),
            ("More engineers for own machines", f"{self.people_own:g}", "estimate"),
            (
                "Safe utilisation in the busiest minute",
                f"{self.safe:.0%}",
                self.safe_source,
            ),
            (
                "Server around an accelerator",
                f"x {self.rack_factor:g}",
                "estimate: chassis, processors, memory, network",
            ),
            (
                "Power usage effectiveness",
                f"{self.pue:g}",
                "estimate, near the mean of the Uptime Institute's yearly survey",
            ),
            ("Electricity", f"${self.kwh:g} a kWh", "estimate"),
            ("Space", f"${self.kw_space:g} a kW and month", "estimate, colocation without energy"),
            (
                "Tokens to train on",
                f"{self.tokens_per_parameter:g} a parameter",
                "Hoffmann et al. 2022, a lower bound today",
            ),
            ("Experiments before the final run", f"x {self.experiments:g}", "estimate, published projects 1.2 to 4"),
            (
                "Team that builds a model",
                f"{self.builders:g} for {self.build_months:g} months",
                "estimate; staff is 29-49 % of development (Epoch AI 2024)",
            ),
            (
                "Staff of a large development",
                f"at least {self.staff_share:.0%}",
                "Epoch AI 2024: 29-49 % of developing frontier models",
            ),
            (
                "Price of an API over the horizon",
                f"falls {self.api_fall:g}x a year",
                "estimate between a list price that stays (1x) and moving to newer models (3x); a16z 2024 saw 10x",
            ),
            (
                "Rent over the horizon",
                f"falls {self.rent_fall:.0%} a year",
                "estimate; reserved hours keep their price",
            ),
            (
                "Spot hour over an hour on demand",
                f"{self.spot_share:.0%}",
                "Nebius, skypilot-catalog v8 (undated): 1.25 / 2.95 H100, 1.45 / 3.50 H200",
            ),
            (
                "Evaluation",
                f"{self.evaluation_requests:,.0f} requests a month",
                "estimate: a suite of 500, ten times; on own machines in idle hours",
            ),
        )


PEOPLE_BY_SKILLS: dict[Skills, float] = {"none": 1.0, "some": 0.5, "strong": 0.25}


REPLAY_RANGE = 1.15
"""By what factor the safe use of other days lies around that of a replayed trace. Estimate."""


def assume(settings: DecideSettings, traffic: Traffic | None = None) -> Assumptions:
    """The assumptions that follow from [decide], and from a trace that was replayed."""
    usual = Assumptions(engineer_monthly=settings.engineer_monthly, people_hosting=PEOPLE_BY_SKILLS[settings.skills])
    if traffic is None or not traffic.safe_use:
        return usual
    safe = traffic.safe_use
    return replace(
        usual,
        safe=safe,
        safe_range=(safe / REPLAY_RANGE, min(safe * REPLAY_RANGE, 1.0)),
        safe_source=f"replay of {traffic.source} within the limits on latency",
    )
