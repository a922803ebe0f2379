"""The command line of a vLLM server that follows from a plan: the same in every target."""

from slipway.deploy.deployment import ModelServer
from slipway.models.memory import RESERVED_SHARE

PORT = 8000
ENGINE = """\
# Put this into slipway.toml, and name it: [release] engine = "hosted", model = "{model}".
[engines.hosted]
kind = "openai"
base_url = "{address}"
api_key = "env:VLLM_API_KEY"
"""
QUANTISED = {"fp8": ("--quantization", "fp8")}


def copies_per_machine(model: ModelServer) -> int:
    """Replicas that one machine holds: as many as its accelerators allow."""
    return max(1, min(model.replicas, model.per_machine // model.devices))


def machines(model: ModelServer) -> int:
    """Machines that all replicas need."""
    return -(-model.replicas // copies_per_machine(model))


def engine_table(model: ModelServer, address: str) -> str:
    """The table of slipway.toml by which the gateway finds the server."""
    return ENGINE.format(model=model.name, address=address)


def vllm_argv(model: ModelServer, *, copies: int = 1, host: str = "0.0.0.0") -> list[str]:
    """`vllm serve` with the parallelism, context and batch that were planned; `copies` share one machine."""
    argv = ["vllm", "serve", model.weights, "--served-model-name", model.name, "--host", host, "--port", str(PORT)]
    argv += ["--tensor-parallel-size", str(model.devices)]
    if copies > 1:
        argv += ["--data-parallel-size", str(copies)]
    argv += ["--max-model-len", str(model.context), "--max-num-seqs", str(model.sequences)]
    if model.step_tokens:
        argv += ["--max-num-batched-tokens", str(model.step_tokens)]
    argv += ["--gpu-memory-utilization", f"{1 - RESERVED_SHARE:.2f}", "--dtype", "auto"]
    return [*argv, *QUANTISED.get(model.precision, ())]
