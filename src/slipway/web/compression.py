"""Makes answers smaller on the wire: zstd where the browser takes it, else gzip."""

import gzip
from typing import Literal

import zstandard

Coding = Literal["zstd", "gzip", "identity"]
TOO_SMALL = 600


def best_coding(accepted: str) -> Coding:
    """The coding to answer with, from an Accept-Encoding header. `q=0` refuses one."""
    offered = {
        name.strip().lower()
        for name, _, weight in (part.partition(";") for part in accepted.split(","))
        if weight.replace(" ", "") not in ("q=0", "q=0.0")
    }
    if "zstd" in offered:
        return "zstd"
    return "gzip" if "gzip" in offered else "identity"


def compress(body: bytes, coding: Coding, *, hard: bool = False) -> bytes:
    """`hard` takes its time: for files that are compressed once."""
    match coding:
        case "zstd":
            return zstandard.ZstdCompressor(level=22 if hard else 9).compress(body)
        case "gzip":
            return gzip.compress(body, 9 if hard else 5, mtime=0)
        case "identity":
            return body
