"""Every check that a change must pass, each with its duration: scripts/check.py [--only lint|tests] [PYTEST ARGS]."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# More than four workers gain little, and each may start a database and a browser.
WORKERS = min(4, os.cpu_count() or 1)


def lint_steps() -> dict[str, list[str]]:
    """The quick checks, by name."""
    python = sys.executable
    return {
        "ruff check": [str(BIN / "ruff"), "check", "--quiet", "."],
        "ruff format": [str(BIN / "ruff"), "format", "--check", "--quiet", "."],
        "import floors": [str(BIN / "lint-imports"), "--no-logo"],
        "mypy --strict": [str(BIN / "mypy"), "--strict", "src"],
        "generated docs": [python, "scripts/write_docs.py", "--check"],
    }


def test_step(arguments: list[str]) -> list[str]:
    """pytest over all files, or over what was asked for; a file stays in one worker, so its fixtures are made once."""
    spread = ["-n", str(WORKERS), "--dist", "loadfile"] if not arguments else []
    return [sys.executable, "-m", "pytest", "-q", "--durations=10", *spread, *arguments]


def main(arguments: list[str]) -> int:
    """Run the steps in order, show the output of those that fail, and end with a summary."""
    only = ""
    if arguments[:1] == ["--only"]:
        only, arguments = (arguments[1] if len(arguments) > 1 else ""), arguments[2:]
        if only not in {"lint", "tests"}:
            print("--only takes lint or tests.")
            return 2
    steps = {} if only == "tests" else lint_steps()
    if only != "lint":
        steps["pytest"] = test_step(arguments)
    failed: list[str] = []
    started = time.monotonic()
    for name, command in steps.items():
        began = time.monotonic()
        quiet = name != "pytest"
        done = subprocess.run(
            command,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
        )
        print(
            f"{'ok    ' if done.returncode == 0 else 'FAILED'} {name:<16} {time.monotonic() - began:6.1f} s", flush=True
        )
        if done.returncode != 0:
            failed.append(name)
            print(done.stdout or "", flush=True)
    seconds = time.monotonic() - started
    print(f"{'all checks passed' if not failed else 'failed: ' + ', '.join(failed)} in {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
