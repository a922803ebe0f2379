"""Texts that are longer or shorter than allowed."""

from dataclasses import dataclass
from typing import ClassVar

from slipway.guard.rails.base import NOTHING, Found, Reach, Scene, rails


@rails.register("length")
@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Fires when a text has more than `max_characters` or fewer than `min_characters`."""

    max_characters: int = 32_000
    min_characters: int = 0

    reach: ClassVar[Reach] = "growing"
    redacts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_characters <= self.max_characters:
            raise ValueError("min_characters must be at least 0 and at most max_characters")

    def look(self, text: str, scene: Scene, *, start: int = 0) -> Found:
        length = scene.before + len(text) - start
        if length > self.max_characters:
            reason = f"the text has more than {self.max_characters:,} characters"
            return Found(fired=True, reason=reason, score=1.0)
        if scene.complete and length < self.min_characters:
            reason = f"the text has {length:,} characters, fewer than {self.min_characters:,}"
            return Found(fired=True, reason=reason, score=1.0)
        return NOTHING

    def fingerprint(self) -> str:
        return "1"
