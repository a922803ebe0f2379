"""What do people say? A queue for the keyboard, the agreement of reviewers, sign-offs with a note."""

from typing import Any
from urllib.parse import urlencode

from slipway.domain.errors import InputError
from slipway.domain.release import Release
from slipway.domain.review import Review, ReviewItem
from slipway.release.evidence import list_signoffs
from slipway.release.parts import list_releases, load_release
from slipway.review.agreement import measure_agreement
from slipway.review.queue import list_items, load_item, queue_answers, queue_traces, save_review, undo_review
from slipway.review.signoff import dissent, sign
from slipway.web.charts import Bar, BarChart
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, count, interval, plural, significant
from slipway.web.page import LOCAL, Done, View, Visit, act, page
from slipway.web.pages.evaluate import chosen_release

RATINGS = ((1, "bad"), (2, "poor"), (3, "mixed"), (4, "good"), (5, "very good"))
SHOWN = 40


def show(visit: Visit) -> View:
    workspace = visit.workspace
    releases = list_releases(workspace)
    release = chosen_release(visit, releases)
    reviewer, background = reviewer_of(visit)
    data: dict[str, Any] = {
        "release": release,
        "releases": releases,
        "reviewer": reviewer,
        "background": background,
        "ratings": RATINGS,
        "item": None,
        "items": [],
    }
    if release is not None:
        items = list_items(workspace, release, reviewer=reviewer)
        at = _position(items, visit.ask("item"))
        reviews = workspace.store.records.list(Review, where={"release": str(release.id)})
        agreement = measure_agreement(workspace, release)
        data |= {
            "items": [(item, _address(release, reviewer, background, item.id)) for item in items[:SHOWN]],
            "waiting": len(items),
            "item": items[at] if items else None,
            "earlier": _address(release, reviewer, background, items[at - 1].id) if at > 0 else "",
            "later": _address(release, reviewer, background, items[at + 1].id) if at + 1 < len(items) else "",
            "agreement": agreement,
            "figures": [
                ("Ratings", count(agreement.reviews), f"by {plural(len(agreement.reviewers), 'person', 'people')}"),
                (
                    "Agreement",
                    UNKNOWN if agreement.alpha is None else significant(agreement.alpha),
                    interval(*agreement.interval) if agreement.interval else "Krippendorff's alpha",
                ),
                ("Rated twice or more", count(agreement.shared_items), f"of {count(agreement.items)}"),
            ],
            "ratings_chart": _chart(reviews),
            "own": sum(review.reviewer == reviewer for review in reviews),
            "means": [(name, significant(mean)) for name, mean in agreement.means.items()],
            "roles": workspace.settings.review.roles,
            "role_pairs": [(role, role) for role in workspace.settings.review.roles],
            "signoffs": list_signoffs(workspace, release),
            "dissent": dissent(workspace, release),
        }
    return View("review.html", "Review", data, (Crumb("Review"),))


def rate(visit: Visit) -> Done:
    item = load_item(visit.workspace, visit.said("item"))
    reviewer, background = reviewer_of(visit)
    rating = visit.said("rating")
    if not rating.isdigit():
        raise InputError("No rating was chosen. Press a number from 1 (bad) to 5 (very good).")
    save_review(
        visit.workspace, item, reviewer=reviewer, rating=int(rating), background=background, note=visit.said("note")
    )
    return Done(_back(visit))


def undo(visit: Visit) -> Done:
    reviewer, _ = reviewer_of(visit)
    taken = undo_review(visit.workspace, reviewer)
    return Done(f"{_back(visit)}&item={taken.item}", "Your last rating is taken back.")


def queue(visit: Visit) -> Done:
    """Answers of the evaluations, or of the traffic, wait for people afterwards."""
    release = load_release(visit.workspace, visit.said("release"))
    add = queue_traces if visit.said("source") == "traffic" else queue_answers
    waiting = add(visit.workspace, release, limit=int(visit.said("limit") or "10"))
    return Done(f"/review?release={release.number}", f"{plural(len(waiting), 'answer')} waiting.")


def sign_off(visit: Visit) -> Done:
    release = load_release(visit.workspace, visit.said("release"))
    signed = sign(
        visit.workspace,
        release,
        role=visit.said("role"),
        person=visit.said("person") or visit.person,
        approve=visit.said("decision") == "approve",
        note=visit.said("note"),
    )
    word = "approved" if signed.decision == "approve" else "rejected"
    return Done(f"/review?release={release.number}", f"{release.label} is {word} as {signed.role}.")


def reviewer_of(visit: Visit) -> tuple[str, str]:
    """(name, background): who is signed in; on loopback, whoever the page is told."""
    told = visit.said("reviewer") or visit.ask("reviewer")
    name = visit.person if visit.person != LOCAL else told or LOCAL
    return name, visit.said("background") or visit.ask("background")


def _position(items: list[ReviewItem], id: str) -> int:
    return next((place for place, item in enumerate(items) if item.id == id), 0)


def _address(release: Release, reviewer: str, background: str, item: str) -> str:
    query = {"release": str(release.number), "reviewer": reviewer, "background": background, "item": item}
    return f"/review?{urlencode({name: value for name, value in query.items() if value})}"


def _back(visit: Visit) -> str:
    reviewer, background = reviewer_of(visit)
    query = {"release": visit.said("number"), "reviewer": reviewer, "background": background}
    return f"/review?{urlencode({name: value for name, value in query.items() if value})}"


def _chart(reviews: list[Review]) -> BarChart | None:
    if not reviews:
        return None
    many = {rating: sum(review.rating == rating for review in reviews) for rating, _ in RATINGS}
    bars = [Bar(f"{rating} {word}", float(many[rating])) for rating, word in RATINGS]
    return BarChart(title="Ratings", bars=bars, format=count)


ROUTES = [
    page("/review", show, needs="review"),
    act("/review/rate", rate, back=show, needs="review"),
    act("/review/undo", undo, back=show, needs="review"),
    act("/review/queue", queue, back=show, needs="review"),
    act("/review/sign", sign_off, back=show, needs="sign_off"),
]
