"""What the demo did so far: each stage adds to it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from slipway.domain.answer import Answer
from slipway.domain.evaluation import Comparison
from slipway.domain.feedback import Finding
from slipway.domain.release import Gate, Release
from slipway.lifecycle.material import Material
from slipway.workspace import Workspace

OnProgress = Callable[[str, int, int], None]
"""Called with (what, done, total) while a stage works."""


@dataclass(slots=True)
class Shown:
    """What the demo did so far; stages add to it."""

    workspace: Workspace
    material: Material
    on_progress: OnProgress
    first: Release | None = None
    second: Release | None = None
    comparison: Comparison | None = None
    finding: Finding | None = None
    gap_question: str = ""
    gate: Gate | None = None
    answers: list[tuple[str, Answer]] = field(default_factory=list)
