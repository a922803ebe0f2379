"""How long training takes: 6 x parameters x tokens over what accelerators really reach across whole runs."""

from slipway.domain.hardware import Hardware

REACHED = {"a100": 0.35, "h100": 0.25, "h200": 0.25, "gh200": 0.25, "tpu": 0.40}
"""Share of bf16 peak over whole published runs, restarts and waiting included (40 runs; inter-quartile A100 .27-.45,
H100 .15-.27). Papers quote the best hours, 0.4 to 0.5. TPU: recalled from PaLM (0.46) and its like."""
REACHED_ELSEWHERE = 0.25
SMALL_BILLIONS, SMALL_POWER = 20.0, 0.25
"""On H100-class accelerators runs of models below 20 billion active parameters reach less: x (billions / 20) ^ 0.25.
Fitted on Llama 3, 3.2 and Granite 3 (1 to 8 billion: .05 to .20); runs on A100 show no such slope (Pythia .26-.33)."""
H100_CLASS_TFLOPS = 700.0
SPREAD = 1.5
"""Four published runs of five lie within this factor of the hours so predicted."""


def training_flop(active_parameters: float, tokens: float, *, frozen: float = 0.0) -> float:
    """Floating point operations: 2 forward and 4 backward per parameter and token.

    Weights that are `frozen` still carry the error back but get no gradient of their own: 4 instead of 6.
    """
    return (6 * (active_parameters - frozen) + 4 * frozen) * tokens


def reached_share(hardware: Hardware, *, active_parameters: float | None = None) -> float:
    """Share of the data sheet's bf16 speed that whole runs reach on this hardware, for a model of that size if given.

    Source: 22 published runs from 1 to 176 billion parameters (model cards of Llama, Epoch AI).
    """
    share = next((share for name, share in REACHED.items() if hardware.name.startswith(name)), REACHED_ELSEWHERE)
    if active_parameters is None or hardware.tflops["bf16"] < H100_CLASS_TFLOPS:
        return share
    return share * float(min(1.0, active_parameters / 1e9 / SMALL_BILLIONS) ** SMALL_POWER)


def pretraining_hours(active_parameters: float, tokens: float, hardware: Hardware) -> float:
    """Device hours of a whole run from scratch: 6 x parameters x tokens over what such runs really reach."""
    share = reached_share(hardware, active_parameters=active_parameters)
    return training_hours(training_flop(active_parameters, tokens), hardware, share=share)


def training_hours(flop: float, hardware: Hardware, *, share: float | None = None) -> float:
    """Device hours for so many operations: hours x devices."""
    return flop / (hardware.tflops["bf16"] * 1e12 * (share or reached_share(hardware))) / 3600
