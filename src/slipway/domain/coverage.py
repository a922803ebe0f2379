"""How an index version tells questions that its documents cover from those that they do not."""

from dataclasses import dataclass


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
