"""The steps of a trace as lines of a waterfall; of thousands, those around one step, a page at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipway.domain.trace import SpanKind
from slipway.store.trace_outline import Step
from slipway.web.number import count, seconds

MOST = 300
"""Steps that are shown at once: each line is about seven elements, and a page has at most two thousand."""
AT_ONCE = 100
DEEPEST = 4
COLOURS: dict[SpanKind, int] = {
    "chat": 1, "embeddings": 4, "retrieval": 4, "rerank": 4, "guard": 5, "tool": 2, "agent": 3, "evaluator": 3,
}  # fmt: skip
FAILED = ("error", "blocked")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanBar:
    """A span as a line of the waterfall; `left` and `width` are per cent of the trace."""

    name: str
    word: str
    depth: int
    colour: int
    left: str
    width: str
    took: str
    href: str
    selected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """Lines with what is left out of them: `earlier` and `later` lead to the steps before and after."""

    bars: list[SpanBar]
    ticks: list[str]
    total: int
    failed: int
    note: str = ""
    earlier: str = ""
    later: str = ""


class _Tree:
    def __init__(self, steps: Sequence[Step]) -> None:
        self.root = steps[0]
        self.by_id = {step.span: step for step in steps}
        self.children: dict[bytes, list[Step]] = {}
        for step in steps[1:]:
            # A step whose parent is missing, or which is its own, hangs at the root.
            known = step.parent is not None and step.parent in self.by_id and step.parent != step.span
            self.children.setdefault(step.parent if known and step.parent else self.root.span, []).append(step)

    def path(self, step: Step) -> list[Step]:
        """From the root down to a step; a circle ends at the root."""
        way = [step]
        seen = {step.span}
        while way[-1] is not self.root:
            above = self.by_id.get(way[-1].parent or b"", self.root)
            if above.span in seen:
                above = self.root
            seen.add(above.span)
            way.append(above)
        return way[::-1]

    def nested(self) -> list[tuple[Step, int]]:
        """Every step in the order of the tree with its depth, children by their start; circles hang at the root."""
        ordered: list[tuple[Step, int]] = []
        seen: set[bytes] = set()
        for start in (self.root, *self.by_id.values()):
            waiting = [(start, 0 if start is self.root else 1)]
            while waiting:
                step, depth = waiting.pop()
                if step.span in seen:
                    continue
                seen.add(step.span)
                ordered.append((step, depth))
                waiting += ((below, depth + 1) for below in reversed(self.children.get(step.span, [])))
        return ordered


def draw_waterfall(
    trace: str, steps: Sequence[Step], *, selected: str, begin: int = 0, only_failed: bool = False
) -> Waterfall:
    """Lines of all steps where there are few. Of many: the way down to the selected one, and its children (or, where it
    has none, those of its parent) from number `begin`; or the failed ones alone."""
    tree = _Tree(steps)
    root = tree.root
    end_ns = max(step.start_ns + step.duration_ns for step in steps)
    length = max(1, end_ns - root.start_ns)
    chosen = tree.by_id.get(bytes.fromhex(selected) if selected else b"", root)
    failed = [step for step in steps if step.status in FAILED]
    page = f"/traces/{trace}"

    def bar(step: Step, depth: int, *, more: str = "") -> SpanBar:
        left = min(100.0, 100 * max(0, step.start_ns - root.start_ns) / length)
        return SpanBar(
            name=f"{step.name}{more}",
            word=step.status if step.status in FAILED else "",
            depth=min(DEEPEST, depth),
            colour=COLOURS.get(step.kind, 6),  # type: ignore[call-overload]
            left=f"{left:.2f}",
            width=f"{max(0.0, min(100 - left, 100 * step.duration_ns / length)):.2f}",
            took=seconds(step.duration_ns / 1e9),
            href=f"{page}?span={step.id}{'&only=failed' if only_failed else ''}",
            selected=step is chosen,
        )

    ticks = [seconds(length / 1e9 * step / 4) for step in range(5)]
    address: Callable[[int], str]
    if only_failed:
        address = lambda number: f"{page}?span={chosen.id}&only=failed&from={number}"  # noqa: E731
        shown = [bar(step, 0) for step in failed[begin : begin + AT_ONCE]]
        of, about = len(failed), "failed steps"
    elif len(steps) <= MOST:
        shown = [bar(step, depth) for step, depth in tree.nested()]
        return Waterfall(bars=shown, ticks=ticks, total=len(steps), failed=len(failed))
    else:
        way = tree.path(chosen)
        if not tree.children.get(chosen.span) and len(way) > 1:
            way = way[:-1]
        below = tree.children.get(way[-1].span, [])
        if chosen in below and not begin:
            begin = below.index(chosen) // AT_ONCE * AT_ONCE
        address = lambda number: f"{page}?span={way[-1].id}&from={number}"  # noqa: E731
        shown = [bar(step, depth) for depth, step in enumerate(way[-DEEPEST - 1 :])]
        for step in below[begin : begin + AT_ONCE]:
            inside = len(tree.children.get(step.span, []))
            shown.append(bar(step, len(way), more=f" (+{count(inside)})" if inside else ""))
        of, about = len(below), f"steps below {way[-1].name}"
    last = min(of, begin + AT_ONCE)
    return Waterfall(
        bars=shown,
        ticks=ticks,
        total=len(steps),
        failed=len(failed),
        note=f"{count(begin + 1) if of else 0} to {count(last)} of {count(of)} {about}",
        earlier=address(max(0, begin - AT_ONCE)) if begin else "",
        later=address(last) if last < of else "",
    )
