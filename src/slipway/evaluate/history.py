"""Finds evaluations again: by id, by release and suite, over the same cases."""

from slipway.domain.errors import NotFound
from slipway.domain.evaluation import Evaluation
from slipway.domain.ids import ContentHash
from slipway.domain.release import Release
from slipway.workspace import Workspace


def list_evaluations(
    workspace: Workspace, release: Release | None = None, *, suite: str | None = None
) -> list[Evaluation]:
    """Newest first, of one release or of all."""
    where = {"release": str(release.id)} if release is not None else None
    found = workspace.store.records.list(Evaluation, where=where)
    return [evaluation for evaluation in found if suite in (None, evaluation.suite)]


def latest_evaluations(workspace: Workspace, release: Release) -> dict[str, Evaluation]:
    """The newest evaluation of each suite."""
    newest: dict[str, Evaluation] = {}
    for evaluation in list_evaluations(workspace, release):
        newest.setdefault(evaluation.suite, evaluation)
    return newest


def find_evaluation(
    workspace: Workspace, release: Release, suite: str, *, dataset: ContentHash | None = None
) -> Evaluation | None:
    """The newest evaluation of a release by one suite, over this dataset where one is given."""
    for evaluation in list_evaluations(workspace, release, suite=suite):
        if dataset is None or (evaluation.dataset is not None and evaluation.dataset.hash == dataset):
            return evaluation
    return None


def load_evaluation(workspace: Workspace, reference: str) -> Evaluation:
    """An evaluation by id or its beginning (6 characters or more). Raises `NotFound`."""
    found = workspace.store.records.find(Evaluation, reference)
    if found is not None:
        return found
    known = list_evaluations(workspace)
    if len(reference) >= 6:
        for evaluation in known:
            if evaluation.id.startswith(reference):
                return evaluation
    raise NotFound(
        "evaluation",
        reference,
        known=[evaluation.id for evaluation in known],
        next_step="List them: slipway evaluate list",
    )
