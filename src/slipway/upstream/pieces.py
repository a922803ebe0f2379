"""What every answer can do that hands out its body piece by piece."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator


class ByPieces:
    """Gives answers the rest of `Response`: they know their headers, their next piece, and how to be given up."""

    __slots__ = ()

    headers: list[tuple[bytes, bytes]]

    @abstractmethod
    async def piece(self) -> bytes: ...

    @abstractmethod
    def close(self) -> None: ...

    def header(self, name: bytes) -> bytes | None:
        """First value of a header, by its lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces; whoever stops early has given the answer up."""
        try:
            while piece := await self.piece():
                yield piece
        finally:
            self.close()

    async def read(self) -> bytes:
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
