"""What a reviewer notes on a trace: a thumb, a score, a label, a comment, a correction."""

import math
from typing import Literal

from slipway.domain.errors import InputError
from slipway.domain.feedback import Feedback
from slipway.domain.ids import new_id
from slipway.workspace import Workspace

LONGEST_NOTE = 20_000
LONGEST_WORD = 80
THUMBS = {"up": 1.0, "down": -1.0}


def annotate(
    workspace: Workspace,
    trace: str,
    *,
    thumbs: Literal["", "up", "down"] = "",
    score: float | None = None,
    name: str = "",
    label: str = "",
    comment: str = "",
    correction: str = "",
    source: Literal["user", "reviewer", "judge"] = "reviewer",
) -> Feedback:
    """Keeps one note, joined to the trace and about the same person. Raises `NotFound`, `ContentErased`, `InputError`.

    `score` lies between -1 (bad) and 1 (good); a thumb stands for one of them. `name` says what is judged, such as
    tone, and is found again as `score.tone`; `label` is a word for it.
    """
    if thumbs:
        score = THUMBS[thumbs]
    if score is None and not (label or comment or correction):
        raise InputError("The note is empty: give a thumb, a score, a label, a comment or a correction.")
    if score is not None and not (math.isfinite(score) and -1 <= score <= 1):
        raise InputError(f"The score {score:g} lies outside -1 (bad) to 1 (good).")
    for what, text, longest in (
        ("name", name, LONGEST_WORD),
        ("label", label, LONGEST_WORD),
        ("comment", comment, LONGEST_NOTE),
        ("correction", correction, LONGEST_NOTE),
    ):
        if len(text) > longest:
            raise InputError(f"The {what} is longer than {longest} characters. Shorten it.")
    about = workspace.store.traces.summary(trace)
    # A correction says that the answer was wrong; a comment alone says neither.
    told = score if score is not None else -1.0 if correction else 0.0
    feedback = Feedback(
        id=new_id(),
        trace=about.id,
        score=told,
        name=name.strip(),
        label=label.strip(),
        comment=comment,
        correction=correction,
        source=source,
        subject=about.subject,
        created_at=workspace.now(),
    )
    workspace.store.records.save(feedback, parents=[("trace", str(about.id))], transform="feedback")
    return feedback


def notes_on(workspace: Workspace, trace: str) -> list[Feedback]:
    """Everything that was said about a trace, newest first."""
    return workspace.store.records.list(Feedback, where={"trace": trace})
