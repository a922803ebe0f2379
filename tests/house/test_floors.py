"""The import contracts of pyproject.toml notice what they are there to notice."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

VIOLATIONS = [
    pytest.param(
        "domain/index.py",
        "import slipway.retrieve",
        "Imports go down, floor by floor",
        id="a noun that imports a room",
    ),
    pytest.param(
        "guard/__init__.py",
        "import slipway.retrieve",
        "Imports go down, floor by floor",
        id="a room that imports the room next door",
    ),
    pytest.param(
        "cupboard.py",
        "",
        "Imports go down, floor by floor",
        id="a new file that was given no floor",
    ),
    pytest.param(
        "release/gate.py",
        "def late() -> None:\n    import torch",
        "torch and what trains with it stay in the rooms that train and run models",
        id="torch in the hall, even when it is imported late",
    ),
    pytest.param(
        "retrieve/__init__.py",
        "import starlette",
        "The web framework stays in the doors",
        id="a room that speaks HTTP",
    ),
    pytest.param(
        "evaluate/__init__.py",
        "import sqlalchemy",
        "SQL is spoken in the store and the vector stores",
        id="a room that speaks SQL",
    ),
    pytest.param(
        "domain/money.py",
        "import msgspec",
        "The nouns need nothing but the standard library",
        id="a noun that needs a package",
    ),
]


@pytest.mark.parametrize(("file", "line", "contract"), VIOLATIONS)
def test_a_broken_floor_is_named(tmp_path: Path, file: str, line: str, contract: str) -> None:
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "static", "templates"))
    with (source / "slipway" / file).open("a", encoding="utf-8") as changed:
        changed.write(f"\n{line}\n")
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [str(linter), "--no-cache", "--no-logo", "--config", str(ROOT / "pyproject.toml")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(source), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout
    assert f"{contract} BROKEN" in done.stdout
