"""How the servers of published benchmarks are started: tokens of a step, and how long a prompt waits to be taken up.

Source: the scripts of InferenceX (SemiAnalysisAI/InferenceX, benchmarks/), October 2025 to April 2026.
"""

from slipway.deploy.benchmark import Schedule
from slipway.deploy.points import VARIED, Point, step_tokens
from slipway.domain.hardware import Hardware
from slipway.models.calibrations import STEPS_BETWEEN

GATHER_STEPS, GATHER_SHARE, GATHER_TOKENS = 20, 0.9, 16_384
"""TensorRT-LLM serves dense models of 1,024 tokens in and out on fewer than eight devices with
`batch_wait_timeout_iters` and `batch_wait_max_tokens_ratio` of its `max_num_tokens`."""
SHORT = (1024, 1024)
LOOK_MANY, LOOK_FEW, MANY_USERS = 30, 10, 16
"""SGLang looks for new requests on Blackwell once in so many steps (`--scheduler-recv-interval`)."""


def schedule_of(point: Point) -> Schedule:
    """How the server of a benchmark of that point takes up prompts."""
    setup, protocol = point.setup, point.protocol
    if point.load == "offline":
        return Schedule(step_tokens=step_tokens(setup))
    between = STEPS_BETWEEN.get(setup.engine, 1)
    if setup.engine == "trtllm":
        gathers = not setup.shape.experts and setup.split.devices < 8
        gathers = gathers and (protocol.input_tokens, protocol.output_tokens) == SHORT
        return Schedule(
            # Started for one prompt and a token for each user.
            step_tokens=-(-(protocol.users + protocol.input_tokens + 64) // 64) * 64,
            between=between,
            gather=GATHER_STEPS if gathers else 0,
            enough=round(GATHER_SHARE * GATHER_TOKENS),
        )
    look = 1
    by_script = (protocol.input_tokens, protocol.output_tokens) in VARIED
    if by_script and setup.engine == "sglang" and _blackwell(setup.hardware):
        look = LOOK_MANY if protocol.users >= MANY_USERS else LOOK_FEW
    return Schedule(step_tokens=step_tokens(setup), between=between, look=look)


def _blackwell(hardware: Hardware) -> bool:
    return hardware.name.startswith(("b200", "b300", "gb200", "gb300"))
