"""Files that appear whole or not at all."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from slipway.domain.errors import DiskFull


def write_text(path: Path, text: str) -> None:
    """Replaces `path` by `text` (UTF-8) in one step; creates its folder. Raises `DiskFull` and leaves it as it was."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` in one step; creates its folder. Raises `DiskFull` and leaves it as it was."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as wrong:
        raise _explained(path, wrong) from wrong
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as wrong:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise _explained(path, wrong) from wrong


def _explained(path: Path, wrong: OSError) -> Exception:
    return DiskFull(path) if wrong.errno == errno.ENOSPC else wrong
