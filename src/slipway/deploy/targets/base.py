"""What a deployment target promises, and the registry of targets."""

from collections.abc import Mapping
from typing import Protocol

from slipway.deploy.deployment import Deployment, Files
from slipway.deploy.shape import Problem
from slipway.plugins import Registry


class Target(Protocol):
    """Writes the files of one kind of place, and finds what is wrong in them without that place being there."""

    def emit(self, deployment: Deployment) -> Files: ...

    def validate(self, files: Mapping[str, str]) -> list[Problem]: ...


targets: Registry[Target] = Registry("target", package="slipway.deploy.targets")
