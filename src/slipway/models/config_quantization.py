"""In how many bits a model's weights are published, as its config.json says it in the words of each tool."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

Native = Literal["bf16", "fp8", "int4"]
FOUR_BITS = ("mxfp4", "nvfp4", "fp4", "int4", "w4a16", "w4a8", "awq", "gptq", "hqq", "exl2")
EIGHT_BITS = ("fp8", "int8", "w8a8", "w8a16", "fbgemm_fp8", "mxfp8")


def native_of(config: Mapping[str, Any]) -> Native:
    """The precision of the weights: what the table of quantisation says of bits, or else of the method's name."""
    table = config.get("quantization_config") or config.get("compression_config") or {}
    if not isinstance(table, Mapping) or not table:
        return "bf16"
    if table.get("load_in_4bit"):
        return "int4"
    if table.get("load_in_8bit"):
        return "fp8"
    bits = next(_bits(table), 0)
    if bits:
        return "int4" if bits <= 4 else "fp8" if bits <= 8 else "bf16"
    said = " ".join(str(table.get(name) or "").lower() for name in ("quant_algo", "quant_method", "format"))
    if any(name in said for name in FOUR_BITS):
        return "int4"
    return "fp8" if any(name in said for name in EIGHT_BITS) else "bf16"


def _bits(table: Mapping[str, Any]) -> Iterator[int]:
    """Bits of the weights wherever a tool writes them: at the top, or in groups of layers."""
    for name in ("bits", "w_bit", "num_bits", "weight_bits"):
        if isinstance(table.get(name), int):
            yield int(table[name])
    groups = table.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping):
            yield from _bits(weights)
