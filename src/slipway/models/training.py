"""How long training takes: 6 x parameters x tokens over what accelerators really reach across whole runs."""

from slipway.domain.hardware import Hardware

REACHED = {"a100": 0.35, "h100": 0.25, "h200": 0.25, "gh200": 0.25}
"""Share of bf16 peak over whole published runs, restarts and waiting included (40 runs; inter-quartile A100 .27-.45,
H100 .15-.27). Papers quote the best hours, 0.4 to 0.5."""
REACHED_ELSEWHERE = 0.25


def training_flop(active_parameters: float, tokens: float, *, frozen: float = 0.0) -> float:
    """Floating point operations: 2 forward and 4 backward per parameter and token.

    Weights that are `frozen` still carry the error back but get no gradient of their own: 4 instead of 6.
    """
    return (6 * (active_parameters - frozen) + 4 * frozen) * tokens


def reached_share(hardware: Hardware) -> float:
    """Share of the data sheet's bf16 speed that whole runs reach on this hardware."""
    return next((share for name, share in REACHED.items() if hardware.name.startswith(name)), REACHED_ELSEWHERE)


def training_hours(flop: float, hardware: Hardware, *, share: float | None = None) -> float:
    """Device hours for so many operations: hours x devices."""
    return flop / (hardware.tflops["bf16"] * 1e12 * (share or reached_share(hardware))) / 3600
