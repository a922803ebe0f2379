"""Personal data of fixed form: e-mail addresses, phones, accounts, cards, national numbers, network addresses."""

from dataclasses import dataclass, field
from typing import ClassVar

from slipway.domain.errors import did_you_mean
from slipway.guard.rails.base import NOTHING, Found, Reach, Scene, found_hits, rails
from slipway.text.personal_data import KINDS, find_personal_data


@rails.register("personal_data")
@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalData:
    """Fires on personal data of fixed form; `kinds` names which, separated by commas, and empty means all of them."""

    kinds: str = ""
    allow: str = ""
    """Texts that may stand, separated by commas: a support address, a hotline."""
    _kinds: frozenset[str] = field(init=False, repr=False)
    _allow: frozenset[str] = field(init=False, repr=False)

    reach: ClassVar[Reach] = "local"
    redacts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        kinds = [name.strip() for name in self.kinds.split(",") if name.strip()]
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"unknown kind '{kind}'.{did_you_mean(kind, KINDS)}")
        object.__setattr__(self, "_kinds", frozenset(kinds or KINDS))
        allowed = frozenset(text.strip().casefold() for text in self.allow.split(",") if text.strip())
        object.__setattr__(self, "_allow", allowed)

    def look(self, text: str, scene: Scene, *, start: int = 0) -> Found:
        hits = find_personal_data(text, self._kinds, start=start)
        if hits and self._allow:
            hits = [hit for hit in hits if text[hit.start : hit.end].casefold() not in self._allow]
        return found_hits(hits) if hits else NOTHING

    def fingerprint(self) -> str:
        return "1"
