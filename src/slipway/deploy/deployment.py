"""What a target is told about an application: names, image, secrets by name, the model that is hosted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Files = dict[str, str]
"""Text of each file by its path, relative to the folder that is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServer:
    """The open model that a deployment runs beside the gateway."""

    name: str
    """As clients and the release call it."""
    weights: str
    """Name on a model hub or a folder."""
    hardware: str
    devices: int
    replicas: int
    precision: str
    context: int
    sequences: int
    per_machine: int
    """Accelerators in one machine."""
    step_tokens: int = 0
    """Tokens of one step; 0 leaves the engine's default."""
    least_replicas: int = 0
    """What the calmest minutes need; 0 where no traffic was replayed."""
    most_replicas: int = 0
    """Up to so many an autoscaler may start: what later traffic may need."""
    per_second: float = 0.0
    """Requests a second that one replica carries within the limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What every target is told. `secrets` are names of environment variables; no value is ever written."""

    application: str
    release: str
    plan: str
    image: str
    port: int
    replicas: int
    database: str
    """`sqlite` (a file, one copy of the gateway) or `postgres`."""
    secrets: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Settings by environment variable; nothing secret."""
    model: ModelServer | None = None
