"""The paths of Azure OpenAI: `/openai/deployments/NAME/…`, `/openai/v1/…` and `/openai/…`, as those of /v1."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

ROOT = "/openai/"
DEPLOYMENTS = f"{ROOT}deployments/"


class Place(NamedTuple):
    """A path of /v1, and the deployment that the client named in its own: the model, whatever the body says."""

    path: str
    deployment: str


def read_path(path: str, known: Container[str]) -> Place:
    """Where a path below `ROOT` leads. A deployment may have slashes in its name: what is `known` of /v1 stands last.

    `api-version` is not looked at: there is one version here.
    """
    if not path.startswith(DEPLOYMENTS):
        rest = path.removeprefix(ROOT)
        return Place(f"/v1/{rest.removeprefix('v1/')}", "")
    parts = path.removeprefix(DEPLOYMENTS).split("/")
    for at in range(1, len(parts)) if parts[0] else ():
        there = "/v1/" + "/".join(parts[at:])
        if there in known:
            return Place(there, "/".join(parts[:at]))
    return Place(path, "")
