"""Checks a streamed answer: holds back its end, so that a pattern split over pieces is still caught."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from slipway.domain.guardrail import RailSpec, TextSource, Verdict
from slipway.guard.checker import (
    WhenUndecided,
    blocked_error,
    check,
    decide,
    join,
    rail_of,
    redact,
    shift,
    stops,
    undecided,
)
from slipway.guard.cuts import CONTEXT, LONGEST, last_cut, pieces
from slipway.guard.rails.base import NOTHING, Found, Rail, Scene

LOOK_AHEAD = 32
"""Characters after a cut that decide whether it is one."""


@dataclass(slots=True)
class _Watch:
    """One rail on one stream: what it read last, how much it read, what it found so far."""

    spec: RailSpec
    rail: Rail
    context: str = ""
    length: int = 0
    read: list[str] = field(default_factory=list)
    found: Found = NOTHING
    seconds: float = 0.0
    failed: Verdict | None = None

    def verdict(self, source: TextSource) -> Verdict:
        if self.failed is not None:
            return self.failed
        return Verdict(
            rail=self.spec.name,
            source=source,
            decision=decide(self.found, self.spec),
            reason=self.found.reason,
            score=self.found.score,
            hits=self.found.hits,
            seconds=self.seconds,
        )


class StreamChecker:
    """Rails on a stream: `feed` returns what may go out now, `finish` the rest; both raise `Blocked`.

    However the text is split, what comes out together is the text that `check` returns for the whole. At least
    `hold_back` characters stay behind until `finish`, more while a number or key may still grow. When a rail must
    see the whole text before it blocks, everything is held until `finish`.
    """

    def __init__(
        self,
        specs: Sequence[RailSpec],
        *,
        hold_back: int = 120,
        source: TextSource = "answer",
        when_undecided: WhenUndecided = "block",
        output_schema: str = "",
    ) -> None:
        self._specs = tuple(specs)
        self._source: TextSource = source
        self._hold_back = max(hold_back, LOOK_AHEAD)
        self._when_undecided: WhenUndecided = when_undecided
        self._output_schema = output_schema
        self._watches = [_Watch(spec, rail_of(spec)) for spec in specs]
        self._whole = any(watch.rail.reach == "whole" and watch.spec.action != "flag" for watch in self._watches)
        self._text = ""
        self._start = 0
        """Where in `_text` the part begins that has not gone out; a cut."""
        self._searched = 0
        self._held: list[str] = []
        self._verdicts: tuple[Verdict, ...] | None = None

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One verdict per rail that ran; complete after `finish` or `Blocked`."""
        if self._verdicts is not None:
            return self._verdicts
        return tuple(watch.verdict(self._source) for watch in self._watches)

    def feed(self, delta: str) -> str:
        """Takes a piece of the stream and returns what may go out now, perhaps nothing. Raises `Blocked`."""
        if not self._watches:
            return delta
        if self._whole:
            self._held.append(delta)
            return ""
        self._text += delta
        out: list[str] = []
        while (end := self._next_cut()) is not None:
            out.append(self._release(end, complete=False))
        return "".join(out)

    def finish(self) -> str:
        """The rest of the stream. Raises `Blocked`."""
        if not self._watches:
            return ""
        if self._whole:
            return self._finish_whole()
        ends = [end for _, end in pieces(self._text, self._start)]
        out = [self._release(end, complete=end == ends[-1]) for end in ends]
        for watch in self._watches:
            if watch.rail.reach == "whole":
                self._look(watch, "".join(watch.read), Scene(self._source, self._output_schema))
        return "".join(out)

    def _finish_whole(self) -> str:
        checked = check(
            "".join(self._held),
            self._specs,
            source=self._source,
            when_undecided=self._when_undecided,
            output_schema=self._output_schema,
        )
        self._verdicts = checked.verdicts
        checked.raise_if_blocked()
        return checked.text

    def _next_cut(self) -> int | None:
        """The end of the next piece that may go out, or None while nothing may."""
        limit = len(self._text) - self._hold_back
        if limit <= self._start:
            return None
        begin = max(self._start, self._searched - LOOK_AHEAD)
        end = last_cut(self._text, begin, min(limit, self._start + LONGEST))
        if end > begin:
            return end
        self._searched = limit
        return self._start + LONGEST if limit >= self._start + LONGEST else None

    def _release(self, end: int, *, complete: bool) -> str:
        """The text up to a cut, after all rails."""
        piece = self._text[self._start : end]
        keep = max(0, end - CONTEXT)
        self._text = self._text[keep:]
        self._start = self._searched = end - keep
        for watch in self._watches:
            piece = self._pass(watch, piece, complete=complete)
        return piece

    def _pass(self, watch: _Watch, piece: str, *, complete: bool) -> str:
        """What one rail leaves of one piece."""
        before = watch.length
        watch.length += len(piece)
        if watch.rail.reach == "whole":
            watch.read.append(piece)
            return piece
        context, watch.context = watch.context, (watch.context + piece)[-CONTEXT:]
        if watch.rail.reach == "growing":
            context = ""
        start = len(context)
        scene = Scene(self._source, self._output_schema, before=before, complete=complete)
        found = self._look(watch, context + piece, scene, start=start)
        if watch.spec.action != "redact" or not found.hits:
            return piece
        return redact(context + piece, found.hits, start=start)

    def _look(self, watch: _Watch, text: str, scene: Scene, *, start: int = 0) -> Found:
        """What one rail finds in one text; keeps it for the verdict. Raises `Blocked`."""
        if watch.failed is not None:
            return NOTHING
        began = time.perf_counter()
        found = NOTHING
        try:
            found = watch.rail.look(text, scene, start=start)
        except Exception as failure:
            # The release decides what a missing verdict means.
            watch.failed = undecided(watch.spec, self._source, failure, seconds=time.perf_counter() - began)
        watch.seconds += time.perf_counter() - began
        watch.found = join(watch.found, shift(found, scene.before - start))
        verdict = watch.verdict(self._source)
        if stops(verdict, self._when_undecided):
            raise blocked_error(verdict)
        return found
