"""What a model is made of, as far as memory, speed and law depend on it: its architecture and its licence."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """What a licence allows, in the classes that decide whether a model may be used.

    `user_cap` is the number of monthly users above which the licence asks for a separate agreement. `checked` says
    whether the text was read for this table or is recalled from the model's card; `text_sha256` is the hash of the text
    that was read on `checked_on`, empty where no text was at hand.
    """

    id: str
    name: str
    commercial: bool
    redistribute: bool
    attribution: str = ""
    user_cap: int | None = None
    train_on_output: Literal["allowed", "forbidden", "under its name"] = "allowed"
    restrictions: str = ""
    checked: Literal["read", "recalled", "own"] = "recalled"
    text_sha256: str = ""
    checked_on: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The shape of a decoder.

    `full_attention_layers` hold keys and values of every token; the other layers hold at most `sliding_window` tokens
    (0: a state that does not grow). `state_numbers` are what these states hold for a sequence over all layers, 0 where
    that is not known. `latent_rank` and `rope_dim` describe multi-head latent attention, which caches one latent vector
    for all heads. Experts count only in the layers after `dense_layers`.
    """

    name: str
    family: str
    parameters: int
    active_parameters: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    context: int
    gated: bool = True
    """Whether the feed-forward block has three matrices (gate, up, down) or two."""
    tied: bool = False
    """Whether input embedding and output layer share one matrix."""
    full_attention_layers: int
    sliding_window: int = 0
    state_numbers: int = 0
    latent_rank: int = 0
    rope_dim: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    dense_layers: int = 0
    native: Literal["bf16", "fp8", "int4"] = "bf16"
    """How the weights are published; a model published in few bits is served in them."""
    licence: Licence | None = None
    weights: str = ""
    """Where the weights lie: a name on a model hub or a folder."""
    source: str = ""
