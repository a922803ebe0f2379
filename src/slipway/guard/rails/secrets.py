"""API keys, private keys, tokens and passwords."""

from dataclasses import dataclass
from typing import ClassVar

from slipway.guard.rails.base import NOTHING, Found, Reach, Scene, found_hits, rails
from slipway.text.secrets import find_secrets


@rails.register("secrets")
@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Fires on API keys, private keys, tokens and passwords; `unknown_tokens` adds long random strings of any form."""

    unknown_tokens: bool = False

    reach: ClassVar[Reach] = "local"
    redacts: ClassVar[bool] = True

    def look(self, text: str, scene: Scene, *, start: int = 0) -> Found:
        hits = find_secrets(text, start=start, unknown_tokens=self.unknown_tokens)
        return found_hits(hits) if hits else NOTHING

    def fingerprint(self) -> str:
        return "1"
