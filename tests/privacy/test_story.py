"""A person goes through every room for real, is erased, and is in no file any more."""

import random
from pathlib import Path

from slipway.domain.dataset import Dataset
from slipway.domain.feedback import Draft, Feedback, Finding
from slipway.domain.ids import SubjectId
from slipway.domain.review import ReviewItem
from slipway.evaluate.dataset import dataset_from_traces
from slipway.evaluate.runner import evaluate
from slipway.learn.inbox import list_findings, save_findings
from slipway.learn.routes import draft
from slipway.learn.triage import triage
from slipway.privacy.erasure import erase_subject
from slipway.release.parts import cut_release
from slipway.release.pipeline import answer
from slipway.retrieve.index import build_index
from slipway.review.queue import queue_answers, queue_traces, save_review
from slipway.workspace import Workspace

ANNA, BERT = SubjectId("user-7c1f-anna"), SubjectId("user-90aa-bert")
LETTERS = "bcdfghklmnprstvz"


def word(rng: random.Random) -> str:
    """A word that nobody uses, and that no rail takes for a secret."""
    return "".join(rng.choice(LETTERS) + rng.choice("aeiou") for _ in range(6))


def files_with(folder: Path, text: str) -> list[str]:
    # A text index stores of each word only what differs from the word before it: the end is always there.
    wanted = text[-9:].encode()
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and wanted in path.read_bytes().lower()
    ]


async def test_a_person_leaves_every_room(workspace: Workspace) -> None:
    rng = random.Random()
    words = {name: word(rng) for name in ("asked", "answered", "complained", "corrected", "reviewed")}
    records = workspace.store.records
    build_index(workspace)
    release = cut_release(workspace)
    gap = f"Can my {words['asked']} be repaired after it fell into the bathtub last week?"
    known = f"How long is the warranty of a lamp for my {words['answered']}?"
    for subject, question in ((ANNA, gap), (ANNA, known), (BERT, "Who pays for the return?")):
        reply = await answer(release, question, workspace=workspace, subject=subject)
        if subject == ANNA:
            feedback = Feedback(
                id=f"f-{reply.trace[:8]}",
                trace=reply.trace,
                score=-1,
                comment=f"This does not help me with my {words['complained']} at all.",
                correction=f"The {words['corrected']} has a warranty of five years, as I was told.",
                subject=ANNA,
                created_at=workspace.now(),
            )
            records.save(feedback, parents=[("trace", reply.trace)])
    dataset = dataset_from_traces(workspace, "collected")
    await evaluate(workspace, release, dataset=dataset)
    queue_traces(workspace, release)
    queue_answers(workspace, release)
    for item in records.list(ReviewItem):
        if item.subject == ANNA:
            note = f"She means the {words['reviewed']} that she bought."
            save_review(workspace, item, reviewer="carl", rating=2, note=note)
    save_findings(workspace, triage(workspace, release))
    drafts = [draft(workspace, finding) for finding in list_findings(workspace)]
    assert drafts
    # Before, the search and the drafts tell her words, although the store keeps them sealed; after, nothing must.
    assert workspace.store.traces.count(text=words["asked"]) >= 1
    assert files_with(workspace.folder / "drafts", words["asked"])

    report = erase_subject(workspace, ANNA)

    left = {name: files_with(workspace.folder, canary) for name, canary in words.items()}
    assert left == {name: [] for name in words}
    assert [workspace.store.traces.count(text=canary) for canary in words.values()] == [0] * len(words)
    assert report.remains == ()
    assert report.counts.get("found", 0) == 0
    assert report.counts["erased"] >= 8
    # What was not hers is still there.
    assert [case.question for case in records.get(Dataset, "collected@1").cases] == ["Who pays for the return?"]
    assert workspace.store.traces.count(subject=BERT) >= 1
    everything = [*records.list(Finding), *records.list(Draft), *records.list(ReviewItem), *records.list(Feedback)]
    assert not any(canary in str(noun).lower() for noun in everything for canary in words.values())
    # The application goes on.
    again = await answer(release, "How long is the warranty of a lamp?", workspace=workspace, subject=BERT)
    assert "five years" in again.text
