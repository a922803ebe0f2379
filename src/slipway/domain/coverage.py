"""How an index version tells questions that its documents cover from those that they do not."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """A logistic model over features of a search, fitted by leaving documents out of the index.

    `threshold` is the probability below which a question counts as not covered; it was set so that a share of
    `false_alarms` of the covered questions fall below it. `found` is the share of the uncovered ones that then do,
    and `auroc` how well the two are told apart; both by cross-validation over `questions` made questions.
    """

    features: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float
    threshold: float
    false_alarms: float
    found: float
    auroc: float
    questions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How many of some questions count as not covered: as the model is shipped, and as it is calibrated."""

    of: int
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The decision of a coverage model, moved so that a rate of false alarms holds on a team's own questions.

    No question is kept, only what was counted.
    """

    index: str
    """Version that the questions were asked of, as NAME@VERSION; a later version carries this on."""
    questions: int
    """Distinct questions that the documents answer."""
    false_alarms: float
    """Rate that was asked for, on average over questions like these."""
    low: float
    """The rate of this very calibration lies between `low` and `high` with 95 % probability."""
    high: float
    cutoff: float
    """Log-odds of the shipped model below which a question counts as not covered."""
    answered: Found
    """False alarms on the questions themselves; `after` leaves each one out of its own calibration."""
    unanswered: Found
    """Of the questions that were given as not answered."""
    left_out: Found
    """Of the answered questions that name what answers them (documents or spans), asked again without it."""
    calibrated_at: datetime
