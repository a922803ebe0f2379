"""What `slipway watch` prints of comparisons, groups, costs and traffic."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.cli.output import table

if TYPE_CHECKING:
    from slipway.domain.expense import Costs, TraceGroup, TrafficShape
    from slipway.watch.trace_comparison import TraceComparison


def groups_table(what: str, groups: "Sequence[TraceGroup]") -> str:
    return table(
        [what, "requests", "errors", "tokens in", "tokens out", "cost $", "last"],
        [
            [
                group.key or "–",
                group.traces,
                group.errors,
                group.input_tokens,
                group.output_tokens,
                group.cost_micros / 1e6,
                group.last_at.strftime("%m-%d %H:%M:%S"),
            ]
            for group in groups
        ],
    )


def comparison_text(compared: "TraceComparison") -> Iterator[str]:
    yield f"before {compared.before.id}\nafter  {compared.after.id}\n"
    changes = [change for change in (*compared.parts, *compared.facts) if change.changed]
    rows: list[list[object]] = [[change.part, change.before or "–", change.after or "–", ""] for change in changes]
    rows += [
        [f"{figure.name} {figure.unit}".strip(), figure.before, figure.after, _signed(figure.difference)]
        for figure in compared.figures
        if figure.before or figure.after
    ]
    yield table(["what", "before", "after", "difference"], rows)
    for change in compared.said:
        if not change.changed:
            yield f"\n{change.what}: the same"
            continue
        marks = {"same": "{}", "del": "[-{}-]", "ins": "{{+{}+}}"}
        yield f"\n{change.what}:{' (only its beginning was compared)' if change.cut else ''}"
        yield "".join(marks[piece.kind].format(piece.text) for piece in change.pieces)


def _signed(difference: float | None) -> str:
    return "" if not difference else f"{difference:+.3g}"


def costs_text(read: "Costs") -> Iterator[str]:
    yield f"{read.requests} requests of users cost ${read.cost_micros / 1e6:.4g} since {read.since:%Y-%m-%d %H:%M}."
    for title, groups in (("release", read.by_release), ("model", read.by_model), ("person", read.by_user)):
        if groups:
            yield f"\n{groups_table(title, groups)}"
    if read.by_operation:
        head = ["operation", "kind", "steps", "errors", "tokens in", "tokens out", "cost $", "time s"]
        yield "\n" + table(
            head,
            [
                [
                    one.name,
                    one.kind,
                    one.count,
                    one.errors,
                    one.input_tokens,
                    one.output_tokens,
                    one.cost_micros / 1e6,
                    one.seconds,
                ]
                for one in read.by_operation
            ],
        )
    repeats = read.repeats
    share = f" (the newest {repeats.looked_at} of {repeats.of})" if repeats.looked_at < repeats.of else ""
    yield (
        f"\nOf {repeats.looked_at} calls{share}, {repeats.repeated} repeated an earlier one word for word. A cache "
        f"would have saved {repeats.tokens_saved} tokens and ${repeats.saved_micros / 1e6:.4g}; kept apart by person, "
        f"{repeats.own_repeated} calls and ${repeats.own_saved_micros / 1e6:.4g}."
    )
    if repeats.most:
        yield table(
            ["for example trace", "calls", "saved $"],
            [[one.example, one.calls, one.saved_micros / 1e6] for one in repeats.most],
        )


def traffic_text(shape: "TrafficShape", csv: Path | None, *, written: bool) -> Iterator[str]:
    yield f"{shape.requests} requests of users from {shape.since:%Y-%m-%d %H:%M} to {shape.until:%Y-%m-%d %H:%M}:"
    yield table(
        ["", "measured"],
        [
            ["requests a day", shape.requests_per_day],
            ["input tokens a request", shape.input_tokens],
            ["output tokens a request", shape.output_tokens],
            ["longest request, tokens", shape.longest_tokens],
            ["busiest minute / mean minute", shape.peak_factor],
            ["cached share of input", shape.cached_share],
        ],
    )
    if csv is not None:
        yield f"Wrote {csv}."
    if written:
        yield "Wrote [decide] of slipway.toml. Decide now: slipway decide run"
    else:
        yield "Decide with it: slipway decide run --traces"
