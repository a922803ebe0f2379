"""`slipway review`: the queue, ratings, agreement, sign-offs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, show, table

if TYPE_CHECKING:
    from slipway.domain.review import ReviewItem
    from slipway.review.agreement import Agreement

app = typer.Typer(no_args_is_help=True)

Reference = Annotated[str, typer.Argument(help="Release: `support@14`, the beginning of its id, or a channel.")]


@app.command()
def queue(
    release: Reference = "",
    traffic: Annotated[bool, typer.Option("--traffic", help="Take answers of real traffic, complaints first.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Most answers to queue. Default: [review] sample.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Queue answers for people: failures and doubts first, then a random sample."""
    from slipway.release.parts import load_release
    from slipway.review.queue import queue_answers, queue_traces

    with open_here(folder) as workspace:
        found = load_release(workspace, release)
        if traffic:
            items = queue_traces(workspace, found, limit=limit or workspace.settings.review.sample)
        else:
            items = queue_answers(workspace, found, limit=limit)
    show(items, as_json=as_json, text=_items_text(items))


@app.command("list")
def list_(
    release: Reference = "",
    reviewer: Annotated[str, typer.Option(help="Leave out what this person has rated.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List the answers that wait, the most urgent first."""
    from slipway.release.parts import load_release
    from slipway.review.queue import list_items

    with open_here(folder) as workspace:
        items = list_items(workspace, load_release(workspace, release) if release else None, reviewer=reviewer)
    show(items, as_json=as_json, text=_items_text(items))


@app.command("next")
def next_(
    reviewer: Annotated[str, typer.Option(help="Who is going to rate it.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show the answer that a reviewer should look at next."""
    from slipway.review.queue import next_item

    with open_here(folder) as workspace:
        item = next_item(workspace, reviewer)
    if item is None:
        show(None, as_json=as_json, text=f"Nothing waits for {reviewer}.")
    else:
        show(item, as_json=as_json, text=_item_text)


@app.command()
def rate(
    item: Annotated[str, typer.Argument(help="Item, or the beginning of its id.")],
    rating: Annotated[int, typer.Argument(help="1 (bad) to 5 (good).")],
    reviewer: Annotated[str, typer.Option(help="Who rates.")],
    background: Annotated[str, typer.Option(help="Whose eyes these are, for example support or legal.")] = "",
    note: Annotated[str, typer.Option(help="What is good or wrong about it.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Rate an answer; rating it again replaces the rating."""
    from slipway.review.queue import list_items, load_item, save_review

    with open_here(folder) as workspace:
        found = load_item(workspace, item)
        review = save_review(workspace, found, reviewer=reviewer, rating=rating, background=background, note=note)
        waiting = len(list_items(workspace, reviewer=reviewer))
    text = f"{reviewer} gave {found.id[:12]} a {rating}. {waiting} more wait; take it back with: slipway review undo "
    show(review, as_json=as_json, text=f"{text}--reviewer {reviewer}")


@app.command()
def undo(
    reviewer: Annotated[str, typer.Option(help="Whose last rating is taken back.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Take back a reviewer's last rating."""
    from slipway.review.queue import undo_review

    with open_here(folder) as workspace:
        review = undo_review(workspace, reviewer)
    show(review, as_json=as_json, text=f"The {review.rating} that {reviewer} gave {review.item[:12]} is taken back.")


@app.command()
def agreement(release: Reference = "", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show how far the reviewers of a release agree."""
    from slipway.release.parts import load_release
    from slipway.review.agreement import measure_agreement

    with open_here(folder) as workspace:
        found = load_release(workspace, release)
        agreed = measure_agreement(workspace, found)
    show(agreed, as_json=as_json, text=lambda made: _agreement_text(made, found.label))


@app.command()
def sign(
    release: Reference,
    role: Annotated[str, typer.Option(help="Role that signs, one of [review] roles.")],
    person: Annotated[str, typer.Option(help="Who signs.")],
    reject: Annotated[bool, typer.Option("--reject", help="Reject instead of approve; needs --note.")] = False,
    note: Annotated[str, typer.Option(help="Reason or condition; it stands on the card.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Sign a release for a role, or reject it; both stay on record."""
    from slipway.release.parts import load_release
    from slipway.review.signoff import sign as sign_release

    with open_here(folder) as workspace:
        found = load_release(workspace, release)
        signed = sign_release(workspace, found, role=role, person=person, approve=not reject, note=note)
    done = "approved" if signed.decision == "approve" else "rejected"
    show(signed, as_json=as_json, text=f"{signed.person} {done} {found.label} as {signed.role}.")


@app.command()
def signoffs(release: Reference = "", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the sign-offs of a release, newest first; dissent stays."""
    from slipway.release.evidence import list_signoffs
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        found = load_release(workspace, release)
        signed = list_signoffs(workspace, found)
    rows = [[word.role, word.person, word.decision, f"{word.created_at:%Y-%m-%d %H:%M}", word.note] for word in signed]
    text = table(["role", "person", "decision", "at", "note"], rows) or f"Nobody has signed {found.label}."
    show(signed, as_json=as_json, text=text)


def _items_text(items: "list[ReviewItem]") -> str:
    rows = [[item.id[:12], f"{item.priority:.1f}", item.question[:60], item.reason[:70]] for item in items]
    return table(["item", "urgency", "question", "why"], rows) or "Nothing waits."


def _item_text(item: "ReviewItem") -> Iterator[str]:
    yield f"item {item.id[:12]}  ({item.reason})"
    yield f"question: {item.question}"
    yield f"answer:   {item.answer}"
    if item.context:
        yield f"quotes:   {item.context}"
    yield f"rate it:  slipway review rate {item.id[:12]} RATING --reviewer NAME"


def _agreement_text(agreement: "Agreement", label: str) -> Iterator[str]:
    people = ", ".join(agreement.reviewers) or "nobody"
    yield f"{agreement.reviews} ratings of {agreement.items} answers of {label} by {people}."
    if agreement.alpha is None:
        yield f"Agreement: {agreement.verdict}."
    else:
        within = f" ({agreement.interval.low:.2f} to {agreement.interval.high:.2f})" if agreement.interval else ""
        shared = f"{agreement.shared_items} shared answers"
        yield f"Krippendorff's alpha {agreement.alpha:.2f}{within}, {shared}: {agreement.verdict}."
    for pair in agreement.pairs:
        kappa = "–" if pair.kappa is None else f"{pair.kappa:.2f}"
        yield f"{pair.reviewers[0]} and {pair.reviewers[1]}: kappa {kappa} over {pair.items} answers"
    for background, mean in agreement.means.items():
        yield f"mean rating, {background}: {mean:.2f}"
