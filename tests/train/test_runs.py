"""Real training of a tiny Llama: losses fall, the right layers change, a kill changes nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.domain.errors import DataNotReady, ModelUnfit
from slipway.domain.training import TrainingRun, TrainingSet
from slipway.train.runs import list_runs, load_run, settings_for, train
from slipway.workspace import Workspace
from tests.train.conftest import word_pairs

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("peft", reason="peft is not installed")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
Write = Callable[[list[dict[str, str]]], None]


@pytest.fixture(autouse=True)
def pairs(write_pairs: Write) -> None:
    write_pairs(word_pairs())


def trained(workspace: Workspace, base: Path, method: str, **changed: Any) -> TrainingRun:
    asked = {"steps": 30, "batch": 8, "rate": 5e-3, "length": 32, **changed}
    return train(workspace, settings_for(workspace, method=method, base=base, **asked))


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


# The base is random and so is its frozen output layer: through it, small matrices can move the loss only so far.
METHODS = [
    pytest.param("lora", 3e-2, 0.95, id="small matrices beside the layers"),
    pytest.param("output-layer", 2e-2, 0.8, id="the output layer"),
    pytest.param("all-layers", 5e-3, 0.8, id="all layers"),
]


@pytest.mark.parametrize(("method", "rate", "falls_to"), METHODS)
def test_the_loss_falls_and_the_model_is_saved_beside_its_tokenizer(
    workspace: Workspace, tiny_base: Path, method: str, rate: float, falls_to: float
) -> None:
    run = trained(workspace, tiny_base, method, steps=40, rate=rate)
    assert run.losses[-1].loss < falls_to * run.losses[0].loss
    assert run.validation_before is not None
    assert run.validation_after is not None
    assert run.validation_after < run.validation_before
    output = workspace.state / run.output
    assert (output / "model" / "model.safetensors").is_file()
    assert (output / "model" / "tokenizer.json").is_file()
    assert not [*output.rglob("*.bin"), *output.rglob("*.pt")]
    assert len((output / "loss.jsonl").read_text().splitlines()) == 40


def test_lora_leaves_the_base_alone_and_merges_without_a_difference(workspace: Workspace, tiny_base: Path) -> None:
    run = trained(workspace, tiny_base, "lora", method_settings=["rank=4"])
    assert run.merge_difference is not None
    assert run.merge_difference <= 1e-4
    assert run.trainable < 0.5 * run.parameters
    adapter = workspace.state / run.output / "adapter" / "adapter_model.safetensors"
    assert adapter.is_file()
    before, after = weights(tiny_base), weights(workspace.state / run.output / "model")
    assert not before["model.layers.0.self_attn.q_proj.weight"].equal(after["model.layers.0.self_attn.q_proj.weight"])
    assert before["model.embed_tokens.weight"].equal(after["model.embed_tokens.weight"])


def test_the_output_layer_method_changes_the_output_layer_only(workspace: Workspace, tiny_base: Path) -> None:
    run = trained(workspace, tiny_base, "output-layer")
    before, after = weights(tiny_base), weights(workspace.state / run.output / "model")
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {"lm_head.weight"}


def test_a_tied_output_layer_is_untied_first_and_says_so(workspace: Workspace, tied_base: Path) -> None:
    run = trained(workspace, tied_base, "output-layer")
    before, after = weights(tied_base), weights(workspace.state / run.output / "model")
    assert "lm_head.weight" not in before
    assert before["model.embed_tokens.weight"].equal(after["model.embed_tokens.weight"])
    assert not after["lm_head.weight"].equal(after["model.embed_tokens.weight"])
    assert any("untied" in note for note in run.notes)
    config = json.loads((workspace.state / run.output / "model" / "config.json").read_text())
    assert config["tie_word_embeddings"] is False


def test_a_run_is_recorded_with_its_lineage_and_done_once(workspace: Workspace, tiny_base: Path) -> None:
    run = trained(workspace, tiny_base, "lora", steps=3)
    again = trained(workspace, tiny_base, "lora", steps=3)
    assert again == run
    assert list_runs(workspace) == [run]
    assert load_run(workspace, run.id[:10]) == run
    data = workspace.store.records.get(TrainingSet, run.data)
    assert data.hash == run.data_hash
    descendants = workspace.store.lineage.descendants([("training_set", run.data)])
    assert ("training_run", run.id) in [edge.child for edge in descendants]


def test_the_same_run_elsewhere_gives_the_same_weights(workspace: Workspace, tiny_base: Path, tmp_path: Path) -> None:
    from slipway.train.base_model import hash_folder

    first = trained(workspace, tiny_base, "all-layers", steps=5)
    digest = hash_folder(workspace.state / first.output / "model")
    workspace.store.records.delete(TrainingRun, first.id)
    second = trained(workspace, tiny_base, "all-layers", steps=5)
    assert hash_folder(workspace.state / second.output / "model") == digest


KILLED = """
import os, signal, sys
from pathlib import Path
from slipway.train.runs import settings_for, train
from slipway.workspace import open_workspace

def stop(done, steps, loss):
    if done == 13:
        os.kill(os.getpid(), signal.SIGKILL)

with open_workspace(sys.argv[1]) as workspace:
    asked = dict(steps=20, batch=8, rate=5e-3, length=32, checkpoint_every=5)
    settings = settings_for(workspace, method="all-layers", base=Path(sys.argv[2]), **asked)
    train(workspace, settings, on_step=stop)
"""


def test_a_killed_run_continues_to_the_same_weights(workspace: Workspace, tiny_base: Path) -> None:
    asked = {"steps": 20, "checkpoint_every": 5}
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(workspace.folder), str(tiny_base)],
        capture_output=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()[-2000:]
    checkpoints = list((workspace.state / "training").glob("*/checkpoint.safetensors"))
    assert len(checkpoints) == 1, "ten steps were kept"
    resumed = trained(workspace, tiny_base, "all-layers", **asked)
    assert resumed.resumed == 1
    kept = weights(workspace.state / resumed.output / "model")
    workspace.store.records.delete(TrainingRun, resumed.id)
    whole = trained(workspace, tiny_base, "all-layers", **asked)
    assert whole.resumed == 0
    never_killed = weights(workspace.state / whole.output / "model")
    assert all(kept[name].equal(never_killed[name]) for name in never_killed)
    assert [point.loss for point in whole.losses] == [point.loss for point in resumed.losses]


def test_pickled_weights_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "base" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelUnfit, match="pickled"):
        trained(workspace, tmp_path / "base", "lora")


def test_data_that_is_not_ready_stops_the_run(workspace: Workspace, tiny_base: Path, write_pairs: Write) -> None:
    write_pairs([{"question": "amber coreth", "answer": "token ghp_abcdefghijklmnopqrstuvwxyz0123456789"}])
    with pytest.raises(DataNotReady, match="secrets") as refused:
        trained(workspace, tiny_base, "lora")
    assert refused.value.exit_code == 3
