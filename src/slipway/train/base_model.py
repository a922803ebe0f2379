"""A base model in a local folder: its tokenizer and weights, safetensors only."""

import hashlib
from pathlib import Path
from typing import Any

from slipway.domain.errors import FileMissing, ModelUnfit
from slipway.domain.ids import ContentHash
from slipway.train.packages import load

CHUNK = 1 << 22


def check_base(folder: Path) -> None:
    """Raises `FileMissing` or `ModelUnfit` unless the folder holds config.json, a tokenizer and safetensors files."""
    if not folder.is_dir():
        raise FileMissing(folder, next_step="Name the folder of a base model: [train] base, or --base DIR.")
    if not (folder / "config.json").is_file():
        raise ModelUnfit(str(folder), "it has no config.json")
    if not list(folder.glob("*.safetensors")):
        pickled = list(folder.glob("*.bin")) + list(folder.glob("*.pt"))
        reason = "its weights are pickled, which can run code" if pickled else "it holds no *.safetensors"
        raise ModelUnfit(str(folder), f"{reason}. Only safetensors are read")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ModelUnfit(str(folder), "it has no tokenizer (tokenizer.json)")


def hash_folder(folder: Path) -> ContentHash:
    """One hash over names and contents of all files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as content:
            while piece := content.read(CHUNK):
                digest.update(piece)
    return ContentHash(digest.hexdigest())


def load_base(folder: Path, *, device: str) -> tuple[Any, Any]:
    """(model, tokenizer) in 32 bits on `device`, from local files only and without running any code of theirs."""
    transformers = load("transformers")
    torch = load("torch")
    load("transformers.utils.logging").disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return model.to(device), tokenizer


def find_device() -> str:
    """`cuda` where torch sees an accelerator, else `cpu`."""
    return "cuda" if load("torch").cuda.is_available() else "cpu"
