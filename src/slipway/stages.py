"""The life of an application: eleven stages, in the one order that help, menu and docs follow."""

from typing import Literal, NamedTuple, get_args

Stage = Literal[
    "decide", "prompt", "train", "retrieve", "guard", "release", "evaluate", "review", "deploy", "watch", "learn"
]

STAGES: tuple[Stage, ...] = get_args(Stage)


class StageFacts(NamedTuple):
    """What help, menu and docs say about a stage."""

    group: Literal["build", "prove", "run"]
    question: str
    does: str


FACTS: dict[Stage, StageFacts] = {
    "decide": StageFacts("build", "Build, buy or open weights?", "Choose the road: build, buy or open weights."),
    "prompt": StageFacts("build", "Is the new version better?", "Write, lint, try and compare prompts."),
    "train": StageFacts("build", "Does training pay?", "Check training data, choose a method, train."),
    "retrieve": StageFacts("build", "Is the right passage found?", "Index documents, search them, find gaps."),
    "guard": StageFacts("build", "What is stopped, what slips through?", "Check text before and after the model."),
    "release": StageFacts("run", "What changed, and may it go out?", "Cut, compare, gate and promote releases."),
    "evaluate": StageFacts("prove", "Where are the limits?", "Measure quality, bias, safety and speed."),
    "review": StageFacts("prove", "What do people say?", "Let people judge answers and sign releases."),
    "deploy": StageFacts("run", "What runs where, how big, how dear?", "Size, plan and emit deployments."),
    "watch": StageFacts("run", "Is it still good?", "Follow traces, quality, drift and cost."),
    "learn": StageFacts("run", "What goes back, and to whom?", "Turn findings into the next release."),
}
