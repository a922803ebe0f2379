"""Instructions that try to take over the model, from users directly or hidden in documents and tool output."""

from dataclasses import dataclass
from typing import ClassVar

from slipway.domain.guardrail import Hit
from slipway.guard.normalise import normalise
from slipway.guard.rails.base import Found, Reach, Scene, rails

MOST_CHARACTERS = 100_000
HIDDEN = {"tag characters", "variation selectors"}
"""Tricks that no honest text uses: they fire by themselves."""


@rails.register("prompt_attack")
@dataclass(frozen=True, slots=True, kw_only=True)
class PromptAttack:
    """Fires on attempts to override instructions; one threshold for what users write, one for documents and tools.

    A threshold of 0 takes the shipped one, set for one false alarm in a hundred on development data. Of a text longer
    than 100,000 characters the first and the last 50,000 are read: put the rail `length` before it.
    """

    user_threshold: float = 0.0
    document_threshold: float = 0.0
    tool_threshold: float = 0.0

    reach: ClassVar[Reach] = "whole"
    redacts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("user_threshold", "document_threshold", "tool_threshold"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1")

    def look(self, text: str, scene: Scene, *, start: int = 0) -> Found:
        from slipway.guard.attack_model import load_attack_model

        model = load_attack_model()
        threshold = self._own_threshold(scene) or model.threshold(scene.source)
        if len(text) > MOST_CHARACTERS:
            text = text[: MOST_CHARACTERS // 2] + "\n" + text[-MOST_CHARACTERS // 2 :]
        plain = normalise(text)
        shown = f"{plain.text}\n{plain.hidden}" if plain.hidden else plain.text
        hits: tuple[Hit, ...] = ()
        if scene.source == "user":
            score = model.score_turn(shown)
            if plain.hidden:
                score = max(score, model.score_turn(plain.hidden))
        else:
            place = model.score_document(shown)
            score = place.score
            # Places in a text that was changed to be read would point elsewhere in the original.
            if shown == text:
                hits = (Hit(kind="prompt_attack", start=place.start, end=place.end, score=score),)
        tricks = [trick for trick in plain.tricks if trick in HIDDEN]
        if tricks:
            score = max(score, 0.99)
        if score < threshold:
            return Found(score=score)
        reason = (
            f"it reads like an attempt to give the model other instructions (score {score:.2f}, limit {threshold:.2f})"
        )
        if plain.tricks:
            reason += f"; it hides text by {', '.join(plain.tricks)}"
        return Found(fired=True, reason=reason, score=score, hits=hits)

    def fingerprint(self) -> str:
        from slipway.guard.attack_model import load_attack_model

        return load_attack_model().fingerprint

    def _own_threshold(self, scene: Scene) -> float:
        match scene.source:
            case "user":
                return self.user_threshold
            case "tool":
                return self.tool_threshold
            case _:
                return self.document_threshold
