"""Writes the hashed locks in requirements/ from pyproject.toml: python3 scripts/lock.py [--upgrade]."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = re.compile(r"^(torch|nvidia-|cuda-|triton)", re.MULTILINE)

# The widest lock comes first; the others are constrained to its versions, so that all of them agree.
WHAT = {
    "dev": ["pyproject.toml", "--extra", "local", "--extra", "postgres", "--group", "dev"],
    "train": ["pyproject.toml", "requirements/torch-needs.txt", "--extra", "train", "--extra", "local"],
    "local": ["pyproject.toml", "--extra", "local"],
    "base": ["pyproject.toml"],
    "build": ["requirements/build.txt"],
    "uv": ["requirements/uv.txt"],
}
HEADERS = {
    "dev": "What `make test` installs before it looks for torch.",
    "train": "base, the extras `local` and `train`, and what torch needs, but not torch: see scripts/bootstrap.py.",
    "local": "base and the extra `local`: what `make demo` installs.",
    "base": "Everything that `pip install slipway` needs.",
    "build": "What builds the wheel and the editable install.",
    "uv": "The installer that scripts/bootstrap.py puts into the virtual environment.",
}


def find_uv() -> str:
    """The uv of the project's virtual environment, else one on PATH."""
    inside = ROOT / ".venv" / ("Scripts/uv.exe" if os.name == "nt" else "bin/uv")
    found = str(inside) if inside.exists() else shutil.which("uv")
    if found is None:
        sys.exit("uv was not found. Make the environment first: python3 scripts/bootstrap.py install")
    return found


def compile_lock(uv: str, name: str, *, constraint: str | None, upgrade: bool) -> Path:
    """Resolve one lock for every platform and Python from 3.11 on; torch is overridden away."""
    lock = ROOT / "requirements" / f"{name}.lock"
    command = [uv, "pip", "compile", *WHAT[name], "--universal", "--python-version", "3.11", "--quiet"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--override", "requirements/no-torch.txt", "--no-emit-package", "torch", "--output-file", str(lock)]
    if constraint is not None:
        command += ["--constraint", constraint]
    if upgrade:
        command.append("--upgrade")
    subprocess.run(command, cwd=ROOT, check=True)
    body = lock.read_text(encoding="utf-8")
    found = FORBIDDEN.search(body)
    if found:
        sys.exit(f"{lock.name} holds {found.group(0)}: a lock must never install torch or CUDA. Look at no-torch.txt.")
    lock.write_text(f"# {HEADERS[name]}\n# Written by scripts/lock.py; do not edit.\n{body}", encoding="utf-8")
    return lock


def main() -> None:
    """Write all locks, the widest first."""
    uv = find_uv()
    upgrade = "--upgrade" in sys.argv[1:]
    constraint: str | None = None
    for name in WHAT:
        lock = compile_lock(uv, name, constraint=constraint, upgrade=upgrade)
        constraint = constraint or str(lock)
        pins = len(re.findall(r"^[A-Za-z0-9].*==", lock.read_text(encoding="utf-8"), re.MULTILINE))
        print(f"{lock.relative_to(ROOT)}: {pins} packages")


if __name__ == "__main__":
    main()
