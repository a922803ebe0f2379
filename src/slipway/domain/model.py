"""Which model a release calls, through which engine, and what it costs."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model part of a release. `digest` pins weights or, for a remote model, its dated name."""

    engine: str
    name: str
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Money per million tokens, with its source and date."""

    input_per_million: float
    output_per_million: float
    cached_input_per_million: float | None = None
    currency: str = "USD"
    source: str
    as_of: date
