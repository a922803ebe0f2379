"""Slipway takes an application of a large language model through its whole life: its Python door."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipway.domain.errors import SlipwayError
    from slipway.lifecycle.start import init_application
    from slipway.lifecycle.up import bring_up
    from slipway.release.channels import promote, roll_back
    from slipway.release.gate import gate_release
    from slipway.release.parts import cut_release, load_release
    from slipway.release.pipeline import answer, stream_answer
    from slipway.retrieve.index import build_index, load_index
    from slipway.retrieve.query import search_index
    from slipway.tracing.client import init, span, traced, traceparent
    from slipway.workspace import Workspace, open_workspace

__version__ = "0.1.0"

# The verbs that an application is begun, built and asked with; every other verb is imported from its room. A module is
# loaded when its name is first used, so `import slipway` costs next to nothing.
_ROOMS = {
    "SlipwayError": "slipway.domain.errors",
    "Workspace": "slipway.workspace",
    "answer": "slipway.release.pipeline",
    "bring_up": "slipway.lifecycle.up",
    "build_index": "slipway.retrieve.index",
    "cut_release": "slipway.release.parts",
    "gate_release": "slipway.release.gate",
    "init": "slipway.tracing.client",
    "init_application": "slipway.lifecycle.start",
    "load_index": "slipway.retrieve.index",
    "load_release": "slipway.release.parts",
    "open_workspace": "slipway.workspace",
    "promote": "slipway.release.channels",
    "roll_back": "slipway.release.channels",
    "search_index": "slipway.retrieve.query",
    "span": "slipway.tracing.client",
    "stream_answer": "slipway.release.pipeline",
    "traced": "slipway.tracing.client",
    "traceparent": "slipway.tracing.client",
}
__all__ = [
    "SlipwayError",
    "Workspace",
    "__version__",
    "answer",
    "bring_up",
    "build_index",
    "cut_release",
    "gate_release",
    "init",
    "init_application",
    "load_index",
    "load_release",
    "open_workspace",
    "promote",
    "roll_back",
    "search_index",
    "span",
    "stream_answer",
    "traced",
    "traceparent",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _ROOMS:
        raise AttributeError(f"module 'slipway' has no attribute {name!r}")
    value = getattr(import_module(_ROOMS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
