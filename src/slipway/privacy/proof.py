"""Looks for texts in every file of a folder: what is claimed to be erased must be found nowhere."""

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

MOST_TEXTS = 200


class Proof(NamedTuple):
    """How many files were searched, and those that still hold one of the texts."""

    searched: int
    holding: list[Path]


def search_files(folder: Path, texts: Sequence[str], *, leave_out: frozenset[str] = frozenset({"master.key"})) -> Proof:
    """Every file under `folder`, byte by byte, for the first 200 of the texts (in UTF-8, and as JSON escapes them)."""
    wanted = {text.encode("utf-8", "surrogatepass") for text in texts[:MOST_TEXTS]}
    wanted |= {json.dumps(text)[1:-1].encode() for text in texts[:MOST_TEXTS]}
    searched, holding = 0, []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink() or path.name in leave_out:
            continue
        searched += 1
        if wanted and path.stat().st_size and _holds(path, wanted):
            holding.append(path)
    return Proof(searched, holding)


def _holds(path: Path, wanted: set[bytes]) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(one) >= 0 for one in wanted)
