"""Names as publications write them, found in the catalogue: accelerators, models, quantised files."""

import re
from collections.abc import Iterable

from slipway.domain.architecture import Architecture
from slipway.domain.errors import NotFound
from slipway.domain.hardware import Hardware
from slipway.models.architectures import list_models
from slipway.models.hardware import list_hardware

FILE_BITS = {
    "f32": 32.0,
    "fp32": 32.0,
    "f16": 16.0,
    "fp16": 16.0,
    "bf16": 16.0,
    "fp8": 8.0,
    "int8": 8.0,
    "q8_0": 8.5,
    "q6_k": 6.5625,
    "q5_k_m": 5.70,
    "q5_k_s": 5.57,
    "q5_1": 6.0,
    "q5_0": 5.5,
    "q4_1": 5.0,
    "q4_0": 4.5,
    "q4_k_s": 4.67,
    "iq4_nl": 4.68,
    "iq4_xs": 4.46,
    "q3_k_l": 4.30,
    "q3_k_m": 4.00,
    "q3_k_s": 3.64,
    "iq3_m": 3.76,
    "iq3_s": 3.66,
    "iq3_xxs": 3.25,
    "q2_k": 3.16,
    "iq2_m": 2.93,
    "iq2_xs": 2.59,
    "iq2_xxs": 2.38,
    "iq1_m": 2.15,
    "iq1_s": 2.00,
    "mxfp4": 4.25,
    "nvfp4": 4.5,
    "nf4": 4.127,
    "int4": 4.5,
    "gptq": 4.25,
    "awq": 4.25,
}
"""Bits a weight takes in a file, scales included. Source: llama.cpp's table for an 8B model (recalled) and the block
sizes of the formats; the K-quants of larger models are a little smaller, see `file_bits`."""
Q4_K, Q6_K = 4.5, 6.5625
TRAINED_ON = {
    "tpu-v3": (123.0, 32.0, 900.0, 262.0),
    "tpu-v4": (275.0, 32.0, 1228.0, 192.0),
    "tpu-v5e": (197.0, 16.0, 819.0, 200.0),
    "tpu-v5p": (459.0, 95.0, 2765.0, 350.0),
    "tpu-v6e": (918.0, 32.0, 1640.0, 300.0),
}
"""Chips that published models were trained on and that nobody plans to serve on here: bf16 teraflops, GiB, GB/s, watts.
Source: Google Cloud's system pages (recalled)."""


def file_bits(quantisation: str, shape: Architecture | None = None) -> float:
    """Bits a weight of that format takes over a whole file. Raises `NotFound` for a format that is not known.

    Q4_K_M keeps the output layer and half of the value and down projections at six bits, so that its mean depends on
    the model: 4.89 for Llama-3-8B, 4.82 for 70B.
    """
    name = re.sub(r"[\s-]+", "_", quantisation.strip().lower())
    if name in ("q4_k_m", "q4_k") and shape is not None:
        output = shape.vocabulary * shape.hidden
        down = shape.layers * shape.hidden * max(shape.intermediate, shape.experts * shape.expert_intermediate)
        value = shape.layers * shape.hidden * shape.kv_heads * shape.head_dim
        sixes = min(1.0, (output + (down + value) / 2) / shape.parameters)
        return Q4_K + (Q6_K - Q4_K) * sixes
    if name in ("q4_k_m", "q4_k"):
        return 4.85
    if name not in FILE_BITS:
        raise NotFound("quantisation", quantisation, known=[*FILE_BITS, "q4_k_m"])
    return FILE_BITS[name]


def find_published_hardware(text: str) -> Hardware:
    """An accelerator as publications write it: `A100-80GB`, `NVIDIA H100 SXM5`, `8xH200`, `TPU`. Raises `NotFound`.

    The form factor that is not named is the one of servers with fast links.
    """
    # The export models are the same chips with slower links.
    text = text.lower().replace("h800", "h100").replace("a800", "a100")
    words = _words(text)
    known = {one.name: one for one in list_hardware()}
    for name in sorted(known, key=len, reverse=True):
        # A name that ends in a number does not go on with one: an A100 is no A10.
        if re.search(re.escape(_words(name)) + (r"(?!\d)" if name[-1].isdigit() else ""), words):
            return known[name]
    for name in sorted(known, key=lambda name: ("sxm" not in name, name)):
        chip = name.partition("-")[0]
        if re.search(rf"(?<![a-z0-9])(\d+x)?{re.escape(chip)}(?![a-z0-9])", text):
            form = "pcie" if "pcie" in text and f"{chip}-pcie" in known else ""
            return known[f"{chip}-{form}" if form else name]
    for name, (tflops, memory, bandwidth, watts) in TRAINED_ON.items():
        if _words(name) in words:
            return Hardware(
                name=name,
                memory_gib=memory,
                bandwidth_gb_s=bandwidth,
                tflops={"bf16": tflops},
                link_gb_s=50.0,
                devices_per_node=4,
                watts=watts,
                efficiency={},
                source="Google Cloud (recalled)",
            )
    raise NotFound("hardware", text, known=[*known, *TRAINED_ON], next_step="List it: slipway deploy hardware.")


def find_published_model(text: str) -> Architecture:
    """A model as publications write it: `Llama-2-70B-chat-hf`, `meta-llama/Llama-3.1-405B`. Raises `NotFound`."""
    wanted = _words(text.rpartition("/")[2])
    known = {one.name: one for one in list_models()}
    by_words = {_words(name): model for name, model in known.items()}
    trimmed = re.sub(r"(instruct|chat|hf|base|it|fp8|bf16|thinking|\d{4})+$", "", wanted)
    for name in (wanted, trimmed):
        if name in by_words:
            return by_words[name]
    inside = _longest(name for name in by_words if wanted.startswith(name) or name.startswith(trimmed))
    if inside and trimmed:
        return by_words[inside]
    raise NotFound("model", text, known=list(known), next_step="List them: slipway deploy models.")


def _words(text: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", text.lower())


def _longest(names: Iterable[str]) -> str:
    return max(names, key=len, default="")
