"""Compose files: the fields that Slipway emits, checked without a container engine."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from slipway.deploy.shape import AnyOf, ListOf, MapOf, OneOf, Problem, Table, check_shape

DURATION = re.compile(r"([0-9]+(us|ms|s|m|h))+")
SIZE = re.compile(r"[0-9]+(b|k|m|g|kb|mb|gb)")
PORT = re.compile(r"([0-9.]+:)?[0-9]+:[0-9]+(/(tcp|udp))?")
SCALAR = AnyOf((str, int, float, bool))
SERVICE = Table(
    {
        "image": str,
        "build": Table({"context": str, "dockerfile": str}),
        "command": AnyOf((str, ListOf(str))),
        "entrypoint": AnyOf((str, ListOf(str))),
        "environment": AnyOf((MapOf(AnyOf((SCALAR, type(None)))), ListOf(str))),
        "ports": ListOf(PORT),
        "expose": ListOf(str),
        "volumes": ListOf(str),
        "secrets": ListOf(AnyOf((str, Table({"source": str, "target": str, "mode": int}, ("source",))))),
        "depends_on": AnyOf(
            (
                ListOf(str),
                MapOf(
                    Table(
                        {"condition": OneOf(("service_started", "service_healthy", "service_completed_successfully"))}
                    )
                ),
            )
        ),
        "healthcheck": Table(
            {
                "test": AnyOf((str, ListOf(str))),
                "interval": DURATION,
                "timeout": DURATION,
                "retries": int,
                "start_period": DURATION,
            },
            ("test",),
        ),
        "restart": OneOf(("no", "always", "on-failure", "unless-stopped")),
        "read_only": bool,
        "tmpfs": ListOf(str),
        "cap_drop": ListOf(str),
        "security_opt": ListOf(str),
        "user": str,
        "shm_size": SIZE,
        "networks": ListOf(str),
        "stop_grace_period": DURATION,
        "deploy": Table(
            {
                "replicas": int,
                "resources": Table(
                    {
                        "limits": Table({"cpus": str, "memory": str}),
                        "reservations": Table(
                            {
                                "cpus": str,
                                "memory": str,
                                "devices": ListOf(
                                    Table(
                                        {
                                            "driver": str,
                                            "count": int,
                                            "capabilities": ListOf(str),
                                            "device_ids": ListOf(str),
                                        },
                                        ("capabilities",),
                                    )
                                ),
                            }
                        ),
                    }
                ),
            }
        ),
    }
)
FILE = Table(
    {
        "name": re.compile(r"[a-z0-9][a-z0-9_-]*"),
        "services": MapOf(SERVICE),
        "volumes": MapOf(AnyOf((type(None), Table({"driver": str, "external": bool, "name": str})))),
        "networks": MapOf(AnyOf((type(None), Table({"driver": str, "internal": bool, "external": bool})))),
        "secrets": MapOf(Table({"file": str, "environment": str, "external": bool})),
    },
    ("services",),
)


def check_compose(file: str, text: str) -> Iterator[Problem]:
    """Every problem of a compose file: unknown fields, wrong types, and names that nothing stands behind."""
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError as wrong:
        yield Problem(file=file, place="", reason=f"is no YAML ({wrong})")
        return
    found = list(check_shape(read, FILE, file=file))
    yield from found
    if not found:
        yield from _check_names(file, read)


def _check_names(file: str, read: dict[str, Any]) -> Iterator[Problem]:
    services = read["services"]
    for name, service in services.items():
        place = f"services.{name}"
        if not service.get("image") and not service.get("build"):
            yield Problem(file=file, place=place, reason="has neither image nor build")
        for other in service.get("depends_on", ()):
            if other not in services:
                yield Problem(file=file, place=place, reason=f"depends on '{other}', which is no service")
        for secret in service.get("secrets", ()):
            source = secret if isinstance(secret, str) else secret["source"]
            if source not in read.get("secrets", {}):
                yield Problem(file=file, place=place, reason=f"uses secret '{source}', which is not declared")
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if not source.startswith((".", "/", "~")) and source not in read.get("volumes", {}):
                yield Problem(file=file, place=place, reason=f"mounts volume '{source}', which is not declared")
        for network in service.get("networks", ()):
            if network not in read.get("networks", {}):
                yield Problem(file=file, place=place, reason=f"joins network '{network}', which is not declared")
