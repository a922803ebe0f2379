"""How long to wait before another try."""

FIRST_S = 0.25
LONGEST_S = 20.0


def wait_s(attempt: int, *, chance: float, asked_for_s: float | None = None, first_s: float = FIRST_S) -> float:
    """Seconds before try `attempt + 1` (0-based): doubled each time, with full jitter, so that many callers do not
    come back at once. What the other side asked for counts where it is longer; never above 20 s.

    `chance` is uniform in [0, 1). Method: "full jitter", M. Brooker, Exponential Backoff and Jitter (2015).
    """
    own = min(LONGEST_S, first_s * 2.0**attempt) * chance
    return min(LONGEST_S, max(own, asked_for_s or 0.0))
