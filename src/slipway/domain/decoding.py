"""How a model picks its next token: the decoding part of a release."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Defaults are deterministic. `None` leaves the choice to the model's own default."""

    temperature: float | None = 0.0
    top_p: float | None = None
    max_tokens: int | None = 512
    seed: int | None = 0
    stop: tuple[str, ...] = ()
