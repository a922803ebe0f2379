"""A chat stream on its way to a client of another API: what its translators have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from slipway.domain.message import Usage
from slipway.wire.chat_events import ChatReader, Event, Failed, Finished


class ChatRewriter(ABC):
    """The chunks of a chat stream as the events of another API. What counts for its end is kept until then."""

    def __init__(self) -> None:
        self._reader = ChatReader()
        self._finish: Finished | None = None
        self._usage: Usage | None = None
        self._failed = False

    def feed(self, piece: bytes) -> bytes:
        return b"".join(self._event(event) for event in self._reader.feed(piece))

    def close(self) -> bytes:
        out = b"".join(self._event(event) for event in self._reader.close())
        if self._finish is None or self._failed:
            return out
        return out + self._end(self._finish, self._usage or Usage())

    def _event(self, event: Event) -> bytes:
        match event:
            case Finished():
                self._finish = event
                return self._finished()
            case Usage():
                self._usage = event
                return b""
            case Failed():
                self._failed = True
                return self._fail(event)
            case _:
                return self._say(event)

    def _finished(self) -> bytes:
        """What goes out once no more is said, before the usage is known."""
        return b""

    @abstractmethod
    def _say(self, event: Event) -> bytes:
        """Something that was said, thought or called."""

    @abstractmethod
    def _fail(self, failed: Failed) -> bytes:
        """The error that ends the stream."""

    @abstractmethod
    def _end(self, finish: Finished, usage: Usage) -> bytes:
        """The end of a stream that came to one."""
