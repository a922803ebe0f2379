"""Config files of families that the catalogue does not hold: hybrids, shared experts, latents, packed weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.domain.architecture import Architecture
from slipway.domain.errors import FileBroken
from slipway.models.architectures import find_model, read_config
from slipway.models.hardware import find_hardware
from slipway.models.memory import kv_bytes, kv_bytes_per_token
from slipway.models.roofline import Speed, Split, Work, facts_of, kernel_prior, step_seconds

PUBLISHED: dict[str, tuple[float, float, float, dict[str, Any]]] = {
    # name: published billions, of them for a token, bytes of cache a token in 16 bits, config.json
    "DeepSeek-V3": (
        671.0,
        37.5,
        70_272,
        {
            "model_type": "deepseek_v3",
            "num_hidden_layers": 61,
            "hidden_size": 7168,
            "num_attention_heads": 128,
            "num_key_value_heads": 128,
            "intermediate_size": 18432,
            "moe_intermediate_size": 2048,
            "n_routed_experts": 256,
            "n_shared_experts": 1,
            "num_experts_per_tok": 8,
            "first_k_dense_replace": 3,
            "moe_layer_freq": 1,
            "q_lora_rank": 1536,
            "kv_lora_rank": 512,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
            "vocab_size": 129280,
        },
    ),
    "Qwen2-57B-A14B": (
        57.4,
        14.2,
        57_344,
        {
            "model_type": "qwen2_moe",
            "num_hidden_layers": 28,
            "hidden_size": 3584,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "intermediate_size": 18944,
            "moe_intermediate_size": 2560,
            "shared_expert_intermediate_size": 20480,
            "num_experts": 64,
            "num_experts_per_tok": 8,
            "decoder_sparse_step": 1,
            "vocab_size": 151936,
        },
    ),
    "Qwen3-Next-80B-A3B": (
        80.0,
        3.9,
        24_576,
        {
            "model_type": "qwen3_next",
            "num_hidden_layers": 48,
            "hidden_size": 2048,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "head_dim": 256,
            "intermediate_size": 5120,
            "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512,
            "num_experts": 512,
            "num_experts_per_tok": 10,
            "full_attention_interval": 4,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 32,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "vocab_size": 151936,
        },
    ),
    "Llama-4-Maverick": (
        400.0,
        17.2,
        196_608,
        {
            "model_type": "llama4",
            "text_config": {
                "model_type": "llama4_text",
                "num_hidden_layers": 48,
                "hidden_size": 5120,
                "num_attention_heads": 40,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "intermediate_size": 8192,
                "intermediate_size_mlp": 16384,
                "num_local_experts": 128,
                "num_experts_per_tok": 1,
                "interleave_moe_layer_step": 2,
                "attention_chunk_size": 8192,
                "vocab_size": 202048,
            },
        },
    ),
    "Jamba-Mini": (
        51.6,
        12.1,
        16_384,
        {
            "model_type": "jamba",
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "num_experts": 16,
            "num_experts_per_tok": 2,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "attn_layer_period": 8,
            "attn_layer_offset": 4,
            "mamba_d_state": 16,
            "mamba_expand": 2,
            "mamba_dt_rank": 256,
            "vocab_size": 65536,
        },
    ),
    "Nemotron-H-8B": (
        8.1,
        8.1,
        16_384,
        {
            "model_type": "nemotron_h",
            "num_hidden_layers": 52,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "attention_head_dim": 128,
            "intermediate_size": 21504,
            "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
            "mamba_num_heads": 128,
            "mamba_head_dim": 64,
            "ssm_state_size": 128,
            "n_groups": 8,
            "vocab_size": 131072,
        },
    ),
    "granite-4.0-h-small": (
        32.2,
        9.0,
        16_384,
        {
            "model_type": "granitemoehybrid",
            "num_hidden_layers": 40,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 768,
            "shared_intermediate_size": 1536,
            "num_local_experts": 72,
            "num_experts_per_tok": 10,
            "layer_types": (["mamba"] * 5 + ["attention"] + ["mamba"] * 4) * 4,
            "mamba_n_heads": 128,
            "mamba_d_head": 64,
            "mamba_d_state": 128,
            "mamba_n_groups": 1,
            "vocab_size": 100352,
            "tie_word_embeddings": True,
        },
    ),
    "mamba2-2.7b": (
        2.7,
        2.7,
        0,
        {
            "model_type": "mamba2",
            "num_hidden_layers": 64,
            "hidden_size": 2560,
            "num_heads": 80,
            "head_dim": 64,
            "state_size": 128,
            "n_groups": 1,
            "vocab_size": 50288,
        },
    ),
    "dbrx": (
        131.6,
        36.5,
        163_840,
        {
            "model_type": "dbrx",
            "d_model": 6144,
            "n_heads": 48,
            "n_layers": 40,
            "vocab_size": 100352,
            "attn_config": {"kv_n_heads": 8},
            "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4},
        },
    ),
    "chatglm3-6b": (
        6.24,
        6.24,
        28_672,
        {
            "model_type": "chatglm",
            "num_layers": 28,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
            "kv_channels": 128,
            "ffn_hidden_size": 13696,
            "padded_vocab_size": 65024,
        },
    ),
    "bloom-176b": (
        176.2,
        176.2,
        4_014_080,
        {"model_type": "bloom", "n_layer": 70, "n_embed": 14336, "num_attention_heads": 112, "vocab_size": 250880},
    ),
    "phi-2": (
        2.78,
        2.78,
        327_680,
        {
            "model_type": "phi",
            "num_hidden_layers": 32,
            "hidden_size": 2560,
            "num_attention_heads": 32,
            "intermediate_size": 10240,
            "vocab_size": 51200,
        },
    ),
}
PLAIN = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}


def written(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_unknown_model_has_its_published_size(name: str, tmp_path: Path) -> None:
    billions, active, cache, config = PUBLISHED[name]
    read = read_config(written(tmp_path, config))
    assert read.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert read.active_parameters / 1e9 == pytest.approx(active, rel=0.03)
    assert kv_bytes_per_token(read) == cache


def test_a_state_does_not_grow(tmp_path: Path) -> None:
    read = read_config(written(tmp_path, PUBLISHED["mamba2-2.7b"][3]))
    # 64 layers x 80 heads x 64 x 128 numbers of two bytes.
    assert kv_bytes(read, 1) == kv_bytes(read, 100_000) == 64 * 80 * 64 * 128 * 2


@pytest.mark.parametrize(
    ("table", "native"),
    [
        ({}, "bf16"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "fp8"),
        ({"quant_method": "mxfp4"}, "int4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "int4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            "int4",
        ),
    ],
)
def test_published_bits_are_read(table: dict[str, Any], native: str, tmp_path: Path) -> None:
    assert read_config(written(tmp_path, {**PLAIN, "quantization_config": table})).native == native


def test_packed_weights_count_as_many_parameters(tmp_path: Path) -> None:
    written(tmp_path, {**PLAIN, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    tensors = {
        "a.qweight": {"dtype": "I32", "shape": [8, 64], "data_offsets": [0, 2048]},
        "a.qzeros": {"dtype": "I32", "shape": [1, 8], "data_offsets": [2048, 2080]},
        "a.scales": {"dtype": "F16", "shape": [1, 64], "data_offsets": [2080, 2208]},
        "b.weight": {"dtype": "BF16", "shape": [10, 64], "data_offsets": [2208, 3488]},
    }
    header = json.dumps(tensors).encode()
    for name in ("model.safetensors", "consolidated.safetensors"):
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header + bytes(3488))
    assert read_config(tmp_path).parameters == 64 * 64 + 640


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({**PLAIN, "model_type": "bert"}, id="encoder"),
        pytest.param({**PLAIN, "model_type": "t5", "is_encoder_decoder": True}, id="encoder and decoder"),
    ],
)
def test_a_model_that_writes_nothing_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FileBroken, match=r"token by token.*Name a model"):
        read_config(written(tmp_path, config))


def test_no_heads_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(FileBroken, match="0 heads"):
        read_config(written(tmp_path, {**PLAIN, "num_attention_heads": 0}))


def _step_s(shape: Architecture, tokens: float, sequences: float) -> float:
    speed = Speed()
    facts = facts_of(shape, find_hardware("h100-sxm"), Split(), "fp8")
    work = Work(tokens=tokens, sequences=sequences, context=0.0, attention=0.0)
    return float(step_seconds(facts, speed, work))


def test_a_prompt_pays_for_what_moves_between_its_products() -> None:
    shape = find_model("qwen3-32b")
    facts = facts_of(shape, find_hardware("h100-sxm"), Split(), "fp8")
    without = facts._replace(activation_bytes=0.0)
    work = Work(tokens=4096.0, sequences=0.0, context=0.0, attention=0.0)
    moved = float(step_seconds(facts, Speed(), work)) - float(step_seconds(without, Speed(), work))
    # A layer: norms 2 x 5,120 x 7, queries, keys and values 10,240 x 4 + 8,192 x 5, norms of queries and keys
    # 9,216 x 4, gate 51,200 x 5.
    byte = 64 * (2 * 5120 * 7 + 10_240 * 4 + 8192 * 5 + 9216 * 4 + 51_200 * 4 + 51_200)
    assert moved == pytest.approx(4096 * byte / (find_hardware("h100-sxm").bandwidth_gb_s * 1e9 * 0.75))


def test_only_tokens_that_are_answered_pass_through_the_head() -> None:
    shape = find_model("qwen3-8b")
    wider = replace(shape, vocabulary=2 * shape.vocabulary, parameters=shape.parameters + 2 * 151_936 * 4096)
    wider = replace(wider, active_parameters=wider.parameters)
    more = [
        _step_s(wider, tokens, sequences) - _step_s(shape, tokens, sequences)
        for tokens, sequences in ((8192, 0), (1024, 1024))
    ]
    # In 16 bits, whatever the other weights have; H100: 3,350 GB/s x 0.75, 989 T x 0.6.
    assert more[0] == pytest.approx(2 * 151_936 * 4096 / (3350e9 * 0.75), rel=0.01)
    assert more[1] == pytest.approx(2 * 151_936 * 4096 * 1024 / (989e12 * 0.6), rel=0.1)


def test_each_stage_of_a_pipeline_has_a_step_of_its_own_and_waits_for_the_last() -> None:
    shape, hardware = find_model("llama-3.1-8b"), find_hardware("h100-sxm")
    work = Work(tokens=1.0, sequences=1.0, context=0.0, attention=0.0)
    one, four = (
        float(step_seconds(facts_of(shape, hardware, Split(pipeline=n), "fp8"), Speed(), work)) for n in (1, 4)
    )
    head = 2 * 128_256 * 4096 / (3350e9 * 0.75)
    assert four - one == pytest.approx(3 * (Speed().step + Speed().sequence + head), rel=0.01)


def test_norms_of_queries_and_keys_are_a_kernel_more_in_each_layer() -> None:
    plain = replace(find_model("qwen3-32b"), family="llama")
    more = _step_s(replace(plain, family="qwen3"), 1.0, 1.0) - _step_s(plain, 1.0, 1.0)
    assert more == pytest.approx(64 * Speed().layer / 12, rel=0.05)


def test_a_layer_in_16_bits_quantises_nothing() -> None:
    shape, hardware = find_model("llama-3.1-8b"), find_hardware("h100-sxm")
    layer = {name: kernel_prior(shape, hardware, name).layer for name in ("bf16", "fp8", "int4")}
    assert layer["bf16"] == pytest.approx(float(layer["fp8"]) - 4e-6)
    assert layer["int4"] == layer["fp8"]
    kept = kernel_prior(find_model("gpt-oss-120b"), hardware, "int4").layer
    assert kept == layer["bf16"], "published checkpoints of experts in 4 bits leave the other layers in 16"


def test_norms_are_not_split_over_the_devices_of_a_layer() -> None:
    shape, hardware = find_model("qwen3-32b"), find_hardware("h100-sxm")
    one, eight = (float(facts_of(shape, hardware, Split(tensor=n), "fp8").activation_bytes) for n in (1, 8))
    norms = 64 * 2 * 5120 * 7
    assert eight == pytest.approx(norms + (one - norms) / 8)


def test_a_hybrid_of_the_catalogue_keeps_the_state_that_its_published_config_says(tmp_path: Path) -> None:
    config = {
        "model_type": "qwen3_5_moe_text", "num_hidden_layers": 60, "full_attention_interval": 4, "hidden_size": 4096,
        "linear_num_value_heads": 64, "linear_value_head_dim": 128, "linear_num_key_heads": 16,
        "linear_key_head_dim": 128, "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 256,
        "moe_intermediate_size": 1024, "num_experts": 512, "num_experts_per_tok": 10, "vocab_size": 248320,
        "shared_expert_intermediate_size": 1024,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    read, known = find_model(str(tmp_path / "config.json")), find_model("qwen3.5-397b-a17b")
    assert known.state_numbers == read.state_numbers == 45 * 64 * 128 * 128
    assert known.full_attention_layers == read.full_attention_layers == 15


def test_each_step_reads_and_writes_the_state_of_every_sequence(tmp_path: Path) -> None:
    shape = read_config(written(tmp_path, PUBLISHED["mamba2-2.7b"][3]))
    stateless = replace(shape, state_numbers=0)
    more = _step_s(shape, 32, 32) - _step_s(stateless, 32, 32)
    bandwidth = find_hardware("h100-sxm").bandwidth_gb_s * 1e9
    assert more == pytest.approx(32 * 2 * shape.state_numbers * 2 / (bandwidth * Speed().cache))  # type: ignore[operator]
