"""What a training method promises, and the registry of methods."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slipway.plugins import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A model whose trained parameters alone ask for gradients; `notes` say what had to be changed for it."""

    model: Any
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What was written: `merge_difference` is the largest difference of a logit before and after merging, if any."""

    merge_difference: float | None = None


class Method(Protocol):
    """Chooses what is trained and writes the result as safetensors. Its fields are its settings."""

    def prepare(self, model: Any) -> Prepared:
        """`model` is a causal language model of transformers; the seed is set already."""
        ...

    def save(self, model: Any, folder: Path, *, probe: Any) -> Saved:
        """Writes the trained model (and adapter) into `folder`; `probe`, token ids of shape (1, n), compares them."""
        ...


methods: Registry[Method] = Registry("training method", package="slipway.train.methods")


def make_method(name: str, settings: dict[str, str]) -> Method:
    """A method by the name in slipway.toml (`all-layers`) with its settings. Raises `UnknownBackend`."""
    return methods.make(name.replace("-", "_"), settings)
