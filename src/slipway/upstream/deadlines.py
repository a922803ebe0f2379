"""How long to wait for another machine, phase by phase."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds. `first_byte_s` runs from the request to the first byte of the body, so that a server that sends
    headers at once and then hangs is noticed; `idle_s` between two pieces of the body; `total_s` from the request to
    the last byte. None waits for ever. Raises `ValueError` for one that nobody could keep."""

    connect_s: float | None = 5.0
    first_byte_s: float | None = 60.0
    idle_s: float | None = 30.0
    total_s: float | None = 600.0

    def __post_init__(self) -> None:
        for name in ("connect_s", "first_byte_s", "idle_s", "total_s"):
            limit_s = getattr(self, name)
            if limit_s is not None and limit_s <= 0:
                raise ValueError(f"'{name}' is {limit_s:g}: a deadline is above 0 seconds")
