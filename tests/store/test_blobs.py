"""Blobs: whole or not there, by the hash of their content."""

import errno
import os
from pathlib import Path

import pytest

from slipway.domain.errors import DiskFull, NotFound
from slipway.domain.ids import ContentHash, hash_bytes
from slipway.store.blobs import Blobs


def test_blobs_come_back_by_their_hash(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    name = blobs.put(b"content")
    assert name == hash_bytes(b"content")
    assert blobs.put(b"content") == name
    assert blobs.get(name) == b"content"
    assert blobs.exists(name)
    assert blobs.names() == [name]
    blobs.remove(name)
    blobs.remove(name)
    assert not blobs.exists(name)
    with pytest.raises(NotFound):
        blobs.get(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "AB" * 32, "a" * 63])
def test_a_name_that_is_no_hash_leads_nowhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound):
        Blobs(tmp_path).get(ContentHash(name))


def test_a_full_disk_leaves_no_half_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = Blobs(tmp_path / "blobs")

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull):
        blobs.put(b"content")
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
