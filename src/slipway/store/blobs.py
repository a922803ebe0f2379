"""Blobs: files by the hash of their content, each there whole or not at all."""

import errno
import os
from pathlib import Path

from slipway.domain.errors import DiskFull, NotFound
from slipway.domain.ids import ContentHash, hash_bytes


class Blobs:
    """Files under `folder/ab/abcdef…`. Not sealed: only for content that is about nobody, such as parts of releases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, content: bytes) -> ContentHash:
        """Raises `DiskFull`; whatever happens, no half-written blob can be read."""
        name = hash_bytes(content)
        path = self.path(name)
        if path.exists():
            return name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except OSError as wrong:
            temporary.unlink(missing_ok=True)
            if wrong.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(path) from wrong
            raise
        return name

    def get(self, name: ContentHash) -> bytes:
        """Raises `NotFound`."""
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            raise NotFound("blob", name) from None

    def exists(self, name: ContentHash) -> bool:
        return self.path(name).exists()

    def remove(self, name: ContentHash) -> None:
        """Removing what is not there changes nothing."""
        self.path(name).unlink(missing_ok=True)

    def names(self) -> list[ContentHash]:
        """Every blob, in order of its hash."""
        return sorted(ContentHash(path.name) for path in self.folder.glob("??/*") if not path.name.startswith("."))

    def path(self, name: ContentHash) -> Path:
        """Where a blob lies. Raises `NotFound` for what is no hash, so that no name leads out of the folder."""
        if len(name) != 64 or any(digit not in "0123456789abcdef" for digit in name):
            raise NotFound("blob", name)
        return self.folder / name[:2] / name
