"""What every command shares: the folder option, JSON or text, tables, progress."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from slipway.workspace import Workspace

Result = TypeVar("Result")

Folder = Annotated[
    Path, typer.Option("--dir", "-C", envvar="SLIPWAY_DIR", help="Folder of the application (holds slipway.toml).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
HERE = Path()

OnProgress = Callable[[int, int], None]
"""Called with (done, total)."""


def open_here(folder: Path) -> "Workspace":
    """The workspace of the application in `folder`; use it as a context manager."""
    from slipway.workspace import open_workspace

    return open_workspace(folder)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs an asynchronous verb to its end."""
    return asyncio.run(work)


def show(value: object, *, as_json: bool, text: Callable[[Any], str | Iterable[str]] | str | None = None) -> None:
    """Prints `value` as JSON, or as the text that `text` makes of it."""
    if as_json:
        print(to_json(value))
        return
    shown = text(value) if callable(text) else text if text is not None else to_json(value)
    print(shown if isinstance(shown, str) else "\n".join(shown))


def to_json(value: object) -> str:
    """JSON of nouns, dates and plain values, two spaces deep."""
    import msgspec

    return json.dumps(msgspec.to_builtins(value, enc_hook=str), indent=2, ensure_ascii=False)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A plain table whose columns line up; numbers are right-aligned."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        return ""
    widths = [max(len(line[i]) for line in [list(head), *cells]) for i in range(len(head))]
    numeric = [all(_is_number(line[i]) for line in cells) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [list(head), *cells]
    )


@contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[OnProgress]:
    """A progress bar on stderr once the work takes longer than a second; plain silence where there is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(label, total=None)
    began = time.monotonic()
    running = False

    def update(done: int, total: int) -> None:
        nonlocal running
        if not running and time.monotonic() - began > 1:
            bar.start()
            running = True
        bar.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        if running:
            bar.stop()


def colours() -> bool:
    """Whether colour may be used on stdout."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text[:1] in "–-$€£+" or not text
