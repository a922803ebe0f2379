"""What the ratings of a release amount to, as one piece of evidence that follows every review."""

from slipway.domain.ids import ReleaseId
from slipway.domain.release import Evidence, Measure
from slipway.domain.review import Review
from slipway.intervals import mean_interval, wilson
from slipway.release.evidence import attach
from slipway.review.agreement import agreement_of
from slipway.workspace import Workspace

GOOD = 4
"""Ratings from here on are good."""


def refresh_evidence(workspace: Workspace, release: ReleaseId) -> Evidence | None:
    """Writes the review evidence of a release anew from all its ratings; None, and none is kept, without any."""
    reviews = workspace.store.records.list(Review, where={"release": str(release)})
    id = f"review-{release[:20]}"
    if not reviews:
        if workspace.store.records.find(Evidence, id) is not None:
            workspace.store.records.delete(Evidence, id)
        return None
    agreement = agreement_of(reviews, release=release)
    ratings = [float(review.rating) for review in reviews]
    good = sum(rating >= GOOD for rating in ratings)
    # Ratings are put on 0 to 1 for the interval of few values, and back.
    low, high = (1 + 4 * bound for bound in mean_interval([(rating - 1) / 4 for rating in ratings]))
    share = wilson(good, len(ratings))
    measures = [
        Measure(name="rating", value=sum(ratings) / len(ratings), low=low, high=high, n=len(ratings)),
        Measure(name="good_share", value=good / len(ratings), low=share.low, high=share.high, n=len(ratings)),
    ]
    if agreement.alpha is not None:
        measures.append(
            Measure(
                name="agreement",
                value=agreement.alpha,
                low=agreement.interval.low if agreement.interval else None,
                high=agreement.interval.high if agreement.interval else None,
                n=agreement.shared_items,
            )
        )
    people = len(agreement.reviewers)
    return attach(
        workspace,
        Evidence(
            id=id,
            release=release,
            kind="review",
            suite="review",
            measures=tuple(measures),
            passed=None,
            summary=f"{len(reviews)} ratings by {people} {'person' if people == 1 else 'people'}, "
            f"mean {measures[0].value:.2f} of 5",
            created_at=workspace.now(),
        ),
    )
