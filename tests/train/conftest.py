"""A tiny random Llama with its own tokenizer, made anew for the tests of training."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from slipway.workspace import Workspace

WORDS = tuple(
    f"{first}{last}"
    for first in ("am", "birk", "cor", "dun", "el", "fal")
    for last in ("ber", "ock", "dan", "eth", "ion", "us")
)


def word_pairs() -> list[dict[str, str]]:
    """Questions of six words that have little in common; the answer is always in the same few words."""
    rng = Random(1)
    questions = [rng.sample(WORDS, 6) for _ in range(48)]
    return [{"question": " ".join(words), "answer": f"amber falus {words[0]}"} for words in questions]


def make_base(folder: Path, *, tied: bool) -> Path:
    """A Llama of two layers whose tokenizer knows the words of the pairs."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    words = sorted({word for pair in word_pairs() for text in pair.values() for word in text.split()})
    vocabulary = {word: number for number, word in enumerate(["<unk>", "</s>", *words])}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="</s>")
    # Two threads on a tiny model mostly wait for each other.
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the base model."""
    return make_base(tmp_path_factory.mktemp("base") / "tiny", tied=False)


@pytest.fixture(scope="session")
def tied_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one matrix for input embedding and output layer."""
    return make_base(tmp_path_factory.mktemp("base") / "tied", tied=True)


@pytest.fixture
def write_pairs(workspace: Workspace) -> Callable[[list[dict[str, str]]], None]:
    """Writes pairs into the application's training folder."""

    def write(rows: list[dict[str, str]]) -> None:
        folder = workspace.folder / "training"
        folder.mkdir(exist_ok=True)
        (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write
