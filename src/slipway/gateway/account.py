"""Whose limits and budgets one request is counted under, and what was set aside for it."""

from __future__ import annotations

from slipway.access.budgets import Reservation
from slipway.access.limits import Allowance


class Account:
    """The allowances of one request: those of its key, its person and the project."""

    __slots__ = ("allowances", "headers", "limited", "reservation", "taken", "taken_at")

    def __init__(self, allowances: list[Allowance]) -> None:
        self.allowances = allowances
        self.limited = any(one.limited for one in allowances)
        self.headers: list[tuple[bytes, bytes]] = []
        """What clients read of their limits."""
        self.reservation: Reservation | None = None
        self.taken = 0
        """Tokens counted beforehand, in the second `taken_at`."""
        self.taken_at = 0
