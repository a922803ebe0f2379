"""`slipway`: the stages in their one order, then what spans them."""

import errno
import importlib
import importlib.util
import json
import sys
from typing import Annotated

import typer

from slipway.domain.errors import SlipwayError
from slipway.stages import FACTS, STAGES

app = typer.Typer(
    name="slipway",
    help="Takes an application of a large language model through its whole life.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SPANNING = ("start", "serve", "config", "privacy", "keys", "audit")
"""Command files that belong to no single stage, in the order of help."""


def _version(wanted: bool) -> None:
    if wanted:
        from slipway import __version__

        print(f"slipway {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Takes an application of a large language model through its whole life."""


def _mount() -> None:
    # Commands of `watch` that have a file of their own.
    importlib.import_module("slipway.cli.trace_files")
    for stage in STAGES:
        if importlib.util.find_spec(f"slipway.cli.{stage}"):
            room = importlib.import_module(f"slipway.cli.{stage}")
            app.add_typer(room.app, name=stage, help=FACTS[stage].does)
    for name in SPANNING:
        if importlib.util.find_spec(f"slipway.cli.{name}"):
            room = importlib.import_module(f"slipway.cli.{name}")
            if hasattr(room, "mount"):
                room.mount(app)
            else:
                app.add_typer(room.app, name=name)


_mount()


def main() -> None:
    """Entry point: one clear line for what goes wrong, with the exit code of its class."""
    try:
        app()
    except SlipwayError as wrong:
        _tell(str(wrong), wrong.code)
        sys.exit(wrong.exit_code)
    except KeyboardInterrupt:
        _tell("Stopped. What was finished is kept.", "stopped")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as wrong:
        if wrong.errno != errno.ENOSPC:
            raise
        _tell("The disk is full; nothing was half-written. Free some space and run the command again.", "disk_full")
        sys.exit(1)


def _tell(message: str, code: str) -> None:
    if "--json" in sys.argv:
        print(json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False))
    print(f"error: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
