"""The catalogue of open models agrees with itself, and any config.json is understood."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.domain.errors import FileBroken, FileMissing, NotFound
from slipway.models.architectures import count_parameters, find_model, list_models, read_config

# Models with parts that the rule does not count: experts that every token uses, layers of two kinds.
APPROXIMATE = {"llama-4-scout", "llama-4-maverick", "qwen3.5-397b-a17b", "kimi-k2.5", "glm-5"}


@pytest.mark.parametrize("name", [model.name for model in list_models() if model.name not in APPROXIMATE])
def test_the_shapes_of_a_model_give_its_parameters(name: str) -> None:
    model = find_model(name)
    assert count_parameters(model)[0] == pytest.approx(model.parameters, rel=0.005)


@pytest.mark.parametrize(
    "family", ["llama", "qwen2", "qwen3", "mistral", "gemma3", "phi3", "gpt_oss", "gpt_neox", "mpt", "gpt2"]
)
def test_every_family_is_there_with_its_licence(family: str) -> None:
    models = [model for model in list_models() if model.family == family]
    assert models
    assert all(model.licence is not None and model.source for model in models)


def test_a_misspelt_model_gets_a_suggestion() -> None:
    with pytest.raises(NotFound, match=r"Did you mean 'llama-3\.1-70b'"):
        find_model("llama-3.1-70")


CONFIGS: list[Any] = [
    pytest.param(
        {
            "model_type": "llama",
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "vocab_size": 128256,
            "max_position_embeddings": 131072,
            "tie_word_embeddings": False,
        },
        "llama-3.1-8b",
        id="Llama",
    ),
    pytest.param(
        {
            "model_type": "gpt_neox",
            "hidden_size": 5120,
            "num_hidden_layers": 36,
            "num_attention_heads": 40,
            "intermediate_size": 20480,
            "vocab_size": 50280,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": False,
        },
        "dolly-v2-12b",
        id="GPT-NeoX: Dolly",
    ),
    pytest.param(
        {
            "model_type": "mpt",
            "d_model": 4096,
            "n_layers": 32,
            "n_heads": 32,
            "expansion_ratio": 4,
            "vocab_size": 50432,
            "max_seq_len": 2048,
            "attn_config": {"alibi": True},
        },
        "mpt-7b",
        id="MPT, whose keys have other names",
    ),
    pytest.param(
        {
            "model_type": "gpt2",
            "n_embd": 2560,
            "n_layer": 32,
            "n_head": 20,
            "n_inner": None,
            "vocab_size": 28896,
            "n_positions": 1024,
        },
        "biomedlm",
        id="GPT-2: BioMedLM",
    ),
    pytest.param(
        {
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text",
                "hidden_size": 2560,
                "num_hidden_layers": 34,
                "num_attention_heads": 8,
                "num_key_value_heads": 4,
                "head_dim": 256,
                "intermediate_size": 10240,
                "vocab_size": 262208,
                "max_position_embeddings": 131072,
                "sliding_window": 1024,
            },
        },
        "gemma-3-4b",
        id="Gemma 3, whose decoder stands in a table of its own",
    ),
    pytest.param(
        {
            "model_type": "qwen3_moe",
            "hidden_size": 2048,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "vocab_size": 151936,
            "max_position_embeddings": 40960,
            "tie_word_embeddings": False,
            "sliding_window": None,
        },
        "qwen3-30b-a3b",
        id="a mixture of experts",
    ),
    pytest.param(
        {
            "model_type": "gpt_oss",
            "hidden_size": 2880,
            "num_hidden_layers": 24,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "intermediate_size": 2880,
            "num_local_experts": 32,
            "experts_per_token": 4,
            "vocab_size": 201088,
            "max_position_embeddings": 131072,
            "sliding_window": 128,
            "tie_word_embeddings": False,
            "layer_types": ["sliding_attention", "full_attention"] * 12,
        },
        "gpt-oss-20b",
        id="layers listed one by one",
    ),
]

SHAPE = (
    "layers",
    "hidden",
    "heads",
    "kv_heads",
    "head_dim",
    "vocabulary",
    "context",
    "tied",
    "gated",
    "full_attention_layers",
    "sliding_window",
    "experts",
    "experts_per_token",
)


@pytest.mark.parametrize(("config", "name"), CONFIGS)
def test_a_config_file_describes_the_model_of_the_catalogue(config: dict[str, Any], name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    read, known = read_config(tmp_path), find_model(name)
    assert {key: getattr(read, key) for key in SHAPE} == {key: getattr(known, key) for key in SHAPE}
    assert read.parameters == pytest.approx(known.parameters, rel=0.01)


def test_a_latent_cache_is_read() -> None:
    known = find_model("deepseek-v3")
    assert (known.latent_rank, known.rope_dim) == (512, 64)


def test_parameters_are_counted_in_the_weights_when_they_are_there(tmp_path: Path) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 100,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    header = json.dumps({"__metadata__": {}, "a": {"dtype": "F32", "shape": [3, 5], "data_offsets": [0, 60]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(60))
    assert read_config(tmp_path).parameters == 15


BROKEN = [
    pytest.param("{", "no JSON|not a JSON", id="no JSON"),
    pytest.param('{"hidden_size": 64}', "num_hidden_layers", id="a fact is lacking"),
    pytest.param(
        '{"hidden_size": "wide", "num_hidden_layers": 1, "num_attention_heads": 1}',
        "makes no sense",
        id="words for numbers",
    ),
]


@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_a_broken_config_says_what_is_wrong(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FileBroken, match=reason):
        read_config(tmp_path)


def test_a_folder_without_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_config(tmp_path)
