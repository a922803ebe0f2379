"""How long to wait for another machine, phase by phase."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds. `first_byte_s` runs from the request to the first byte of the body, so that a server that sends
    headers at once and then hangs is noticed; `idle_s` between two pieces of the body; `total_s` from the request to
    the last byte. None waits for ever."""

    connect_s: float | None = 5.0
    first_byte_s: float | None = 60.0
    idle_s: float | None = 30.0
    total_s: float | None = 600.0
