"""How the servers of published benchmarks are started: tokens of a step, and how long a prompt waits to be taken up.

Source: the scripts of InferenceX (SemiAnalysisAI/InferenceX, benchmarks/), October 2025 to April 2026; for the most
throughput offline those of TensorRT-LLM.
"""

from slipway.deploy.benchmark import Schedule
from slipway.deploy.offline import limits_of
from slipway.deploy.points import VARIED, Point, step_tokens
from slipway.domain.hardware import Hardware
from slipway.models.calibrations import STEPS_BETWEEN

MANY_PROMPTS = 16_384
"""InferenceX serves dense models with TensorRT-LLM's `max_num_tokens` large enough for several prompts in a step."""
GATHER_STEPS, GATHER_SHARE = 20, 0.9
"""TensorRT-LLM serves dense models of 1,024 tokens in and out on fewer than eight devices with
`batch_wait_timeout_iters` and `batch_wait_max_tokens_ratio` of its `max_num_tokens`."""
SHORT = (1024, 1024)
LOOK_MANY, LOOK_FEW, MANY_USERS = 30, 10, 16
"""SGLang looks for new requests on Blackwell once in so many steps (`--scheduler-recv-interval`)."""


def by_script(point: Point) -> bool:
    """Whether a point has lengths that InferenceX runs."""
    return (point.protocol.input_tokens, point.protocol.output_tokens) in VARIED


def schedule_of(point: Point) -> Schedule:
    """How the server of a benchmark of that point takes up prompts."""
    setup, protocol = point.setup, point.protocol
    if point.load == "offline":
        limits = limits_of(setup, input_tokens=protocol.input_tokens, output_tokens=protocol.output_tokens)
        return Schedule(step_tokens=limits.tokens * setup.split.pipeline)
    between = STEPS_BETWEEN.get(setup.engine, 1)
    if setup.engine == "trtllm":
        gathers = not setup.shape.experts and setup.split.devices < 8
        gathers = gathers and (protocol.input_tokens, protocol.output_tokens) == SHORT
        return Schedule(
            step_tokens=_trtllm_tokens(point),
            between=between,
            gather=GATHER_STEPS if gathers else 0,
            enough=round(GATHER_SHARE * MANY_PROMPTS),
        )
    look = 1
    if by_script(point) and setup.engine == "sglang" and _blackwell(setup.hardware):
        look = LOOK_MANY if protocol.users >= MANY_USERS else LOOK_FEW
    return Schedule(step_tokens=step_tokens(setup), between=between, look=look)


def _trtllm_tokens(point: Point) -> int:
    """Tokens of a step: several prompts of a dense model in InferenceX, else one prompt and a token for each user."""
    protocol = point.protocol
    if by_script(point) and not point.setup.shape.experts:
        return MANY_PROMPTS
    return -(-(protocol.users + protocol.input_tokens + 64) // 64) * 64


def _blackwell(hardware: Hardware) -> bool:
    return hardware.name.startswith(("b200", "b300", "gb200", "gb300"))
