"""Slipway takes an application of a large language model through its whole life: its Python door."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipway.config.reader import load_settings
    from slipway.workspace import Workspace, open_workspace

__version__ = "0.1.0"
__all__ = ["Workspace", "__version__", "load_settings", "open_workspace"]

# Where each name lives. A module is imported when its name is first used, so `import slipway` costs next to nothing.
_ROOMS = {
    "Workspace": "slipway.workspace",
    "load_settings": "slipway.config.reader",
    "open_workspace": "slipway.workspace",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _ROOMS:
        raise AttributeError(f"module 'slipway' has no attribute {name!r}")
    value = getattr(import_module(_ROOMS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
