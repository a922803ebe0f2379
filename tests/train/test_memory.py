"""The method table: what is trained, and what it needs, by published rules."""

import pytest

from slipway.models.architectures import find_model, list_models
from slipway.train.memory import METHODS, method_table, trainable_parameters, training_memory_gib


def test_full_training_takes_sixteen_bytes_a_parameter() -> None:
    shape = find_model("llama-65b")
    weights, training, _ = training_memory_gib("all-layers", shape, rank=16, batch=1, length=512, checkpointing=True)
    assert weights == 0
    # The QLoRA paper: more than 780 GB for 16-bit fine-tuning of 65 billion parameters.
    assert training * 2**30 / 1e9 > 780
    assert training * 2**30 == pytest.approx(16 * shape.parameters)


def test_lora_counts_both_matrices_of_every_linear_layer() -> None:
    # Published for Llama-2-7B with rank 8 on all linear layers: 19,988,480 parameters.
    assert trainable_parameters("lora", find_model("llama-2-7b"), rank=8) == 19_988_480


def test_lora_needs_little_more_than_the_frozen_weights() -> None:
    shape = find_model("llama-3.1-8b")
    weights, training, _ = training_memory_gib("lora", shape, rank=16, batch=1, length=512, checkpointing=True)
    assert weights * 2**30 == pytest.approx(2 * shape.parameters)
    assert training < 0.1 * weights


def test_the_output_layer_of_a_tied_model_adds_a_copy_and_says_so() -> None:
    tied, untied = find_model("llama-3.2-1b"), find_model("llama-3.1-8b")
    rows = {row.method: row for row in method_table(tied, tokens=1e6)}
    assert "untied" in rows["output-layer"].warning
    assert not any(row.warning for row in method_table(untied, tokens=1e6))


@pytest.mark.parametrize("name", [model.name for model in list_models()])
def test_methods_order_by_memory_for_every_model(name: str) -> None:
    rows = {row.method: row for row in method_table(find_model(name), tokens=1e6, length=512, batch=1)}
    assert list(rows) == list(METHODS)
    assert rows["lora"].memory_gib < rows["all-layers"].memory_gib
    assert rows["lora"].trainable < rows["all-layers"].trainable


def test_longer_examples_and_no_checkpointing_need_more() -> None:
    shape = find_model("llama-3.1-8b")

    def total(**changed: object) -> float:
        return sum(
            training_memory_gib(
                "lora", shape, **{"rank": 16, "batch": 1, "length": 512, "checkpointing": True, **changed}
            )
        )  # type: ignore[arg-type]

    assert total(length=4096) > total()
    assert total(checkpointing=False) > total()


def test_time_and_money_follow_from_the_device() -> None:
    rows = {row.method: row for row in method_table(find_model("llama-3.2-1b"), tokens=1e7, devices=["h100-sxm"])}
    lora, full, head = rows["lora"], rows["all-layers"], rows["output-layer"]
    assert lora.device == full.device == head.device == "h100-sxm"
    assert head.hours is not None
    assert lora.hours is not None
    assert full.hours is not None
    assert head.hours < lora.hours < full.hours
    assert full.hours == pytest.approx(6 * 1.2358e9 * 3e7 / (989e12 * 0.25) / 3600, rel=1e-3)


def test_a_model_that_no_single_device_holds_says_so() -> None:
    row = next(row for row in method_table(find_model("llama-3.1-405b"), tokens=1e6) if row.method == "all-layers")
    assert (row.device, row.hours, row.dollars) == ("", None, None)
