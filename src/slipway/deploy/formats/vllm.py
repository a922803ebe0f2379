"""The command line of vLLM's OpenAI server: which options there are and what they take."""

from collections.abc import Iterator, Sequence

from slipway.deploy.shape import Problem
from slipway.domain.errors import did_you_mean

WHOLE, SHARE, TEXT, FLAG = "a whole number", "a share between 0 and 1", "text", "no value"
OPTIONS = {
    "--host": TEXT,
    "--port": WHOLE,
    "--served-model-name": TEXT,
    "--tensor-parallel-size": WHOLE,
    "--pipeline-parallel-size": WHOLE,
    "--data-parallel-size": WHOLE,
    "--max-model-len": WHOLE,
    "--max-num-seqs": WHOLE,
    "--max-num-batched-tokens": WHOLE,
    "--gpu-memory-utilization": SHARE,
    "--dtype": TEXT,
    "--quantization": TEXT,
    "--kv-cache-dtype": TEXT,
    "--revision": TEXT,
    "--download-dir": TEXT,
    "--seed": WHOLE,
    "--enable-prefix-caching": FLAG,
    "--enable-chunked-prefill": FLAG,
    "--disable-log-requests": FLAG,
}
"""Options as of vLLM 0.11; `--api-key` is left out on purpose, because keys come from the environment."""
DTYPES = ("auto", "bfloat16", "float16", "half", "float", "float32")


def check_argv(file: str, argv: Sequence[str]) -> Iterator[Problem]:
    """Every problem of `vllm serve MODEL …`: unknown options, missing or wrong values."""
    if list(argv[:2]) != ["vllm", "serve"] or len(argv) < 3 or argv[2].startswith("-"):
        yield Problem(file=file, place="argv", reason="must begin with: vllm serve MODEL")
        return
    rest = list(argv[3:])
    while rest:
        option = rest.pop(0)
        if option not in OPTIONS:
            yield Problem(file=file, place=option, reason=f"unknown option.{did_you_mean(option, OPTIONS)}")
            if rest and not rest[0].startswith("--"):
                rest.pop(0)
            continue
        kind = OPTIONS[option]
        if kind == FLAG:
            continue
        value = rest.pop(0) if rest and not rest[0].startswith("--") else ""
        if not _is(value, kind) or (option == "--dtype" and value not in DTYPES):
            yield Problem(file=file, place=option, reason=f"'{value}' is not {kind}")


def _is(value: str, kind: str) -> bool:
    if kind == WHOLE:
        return value.isdigit() and int(value) > 0
    if kind == SHARE:
        try:
            return 0 < float(value) <= 1
        except ValueError:
            return False
    return bool(value)
