"""How many parameters the safetensors files of a folder hold, by their headers alone; packed ones count as many."""

import json
from math import prod
from pathlib import Path
from typing import Any

from slipway.domain.errors import FileBroken

BITS_OF = {"bf16": 16, "fp8": 8, "int4": 4}
PACKED_WORDS = {"I32": 32, "U8": 8}
"""Types of numbers that hold several parameters each, where weights have fewer bits than they."""
BESIDE = (
    "scale",
    "scales",
    "scale_inv",
    "scale_2",
    "qzeros",
    "zero_point",
    "g_idx",
    "absmax",
    "quant_map",
    "quant_state",
    "weight_shape",
    "input_scale",
)
"""Ends of the names of what only says how packed weights are unpacked."""


def count_stored(folder: Path, *, packed_bits: int = 16) -> int:
    """Parameters in the safetensors files of a folder; 0 where there are none.

    Weights of `packed_bits` may be packed into wider integers. A folder that holds a model twice, once in pieces and
    once consolidated, is counted once. Raises `FileBroken`.
    """
    found = sorted(folder.glob("*.safetensors"))
    files = [file for file in found if not file.name.startswith("consolidated")] or found
    return sum(_count_in(file, packed_bits) for file in files)


def _count_in(file: Path, packed_bits: int) -> int:
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        if length > file.stat().st_size:
            raise FileBroken(file, "its header is longer than the file")
        try:
            header: dict[str, Any] = json.loads(content.read(length))
            return sum(_parameters(name, one, packed_bits) for name, one in header.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise FileBroken(file, f"its header is not one of safetensors ({wrong})") from wrong


def _parameters(name: str, tensor: dict[str, Any], packed_bits: int) -> int:
    if name.endswith(BESIDE) or ".quant_state" in name:
        return 0
    word = PACKED_WORDS.get(tensor["dtype"], 0)
    return int(prod(tensor["shape"])) * (word // packed_bits if word > packed_bits else 1)
