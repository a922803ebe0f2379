"""An amount of money in one currency, exact to a millionth."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Money:
    """Whole millionths of a currency unit, so that sums over millions of requests stay exact."""

    micros: int = 0
    currency: str = "USD"

    @classmethod
    def of(cls, amount: float, currency: str = "USD") -> Self:
        return cls(micros=round(amount * 1_000_000), currency=currency)

    @property
    def amount(self) -> float:
        return self.micros / 1_000_000

    def __add__(self, other: "Money") -> "Money":
        if other.currency != self.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}: convert one of them first")
        return Money(micros=self.micros + other.micros, currency=self.currency)

    def __mul__(self, factor: float) -> "Money":
        return Money(micros=round(self.micros * factor), currency=self.currency)

    def __str__(self) -> str:
        amount = self.amount
        sign = {"USD": "$", "EUR": "€", "GBP": "£"}.get(self.currency, f"{self.currency} ")
        if amount == 0:
            return f"{sign}0"
        if abs(amount) < 1:
            return f"{sign}{amount:.3g}" if abs(amount) >= 0.0001 else f"{sign}{amount:.6f}".rstrip("0")
        return f"{sign}{amount:,.2f}" if abs(amount) < 1000 else f"{sign}{amount:,.0f}"
