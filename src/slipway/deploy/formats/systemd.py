"""systemd units: the sections and keys that Slipway emits, checked without systemd."""

import re
from collections.abc import Iterator

from slipway.deploy.shape import Problem
from slipway.domain.errors import did_you_mean

KEYS = {
    "Unit": {"Description", "Documentation", "After", "Wants", "Requires", "StartLimitIntervalSec", "StartLimitBurst"},
    "Service": {
        "Type",
        "User",
        "Group",
        "DynamicUser",
        "StateDirectory",
        "WorkingDirectory",
        "Environment",
        "EnvironmentFile",
        "ExecStartPre",
        "ExecStart",
        "ExecReload",
        "Restart",
        "RestartSec",
        "KillSignal",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "LimitNOFILE",
        "NoNewPrivileges",
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "ReadWritePaths",
        "CapabilityBoundingSet",
        "MemoryMax",
    },
    "Install": {"WantedBy"},
}
RESTARTS = {"no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog"}
YES_NO = {"NoNewPrivileges", "PrivateTmp", "DynamicUser"}
NEEDED = {"Unit": {"Description"}, "Service": {"ExecStart"}, "Install": {"WantedBy"}}
SECONDS = re.compile(r"[0-9]+(ms|s|min|h)?|infinity")


def check_unit(file: str, text: str) -> Iterator[Problem]:
    """Every problem of a unit file: unknown sections and keys, values that systemd would refuse, what is missing."""
    section = ""
    seen: dict[str, set[str]] = {name: set() for name in KEYS}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(("#", ";")):
            continue
        place = f"line {number}"
        if line.startswith("["):
            section = line.strip("[]")
            if section not in KEYS:
                yield Problem(
                    file=file, place=place, reason=f"unknown section '{section}'.{did_you_mean(section, KEYS)}"
                )
            continue
        key, sign, value = line.partition("=")
        if not sign or section not in KEYS:
            yield Problem(file=file, place=place, reason=f"'{line}' is no key=value of a known section")
            continue
        if key not in KEYS[section]:
            yield Problem(file=file, place=place, reason=f"unknown key '{key}'.{did_you_mean(key, KEYS[section])}")
            continue
        seen[section].add(key)
        reason = _wrong_value(key, value)
        if reason:
            yield Problem(file=file, place=place, reason=reason)
    for name, keys in NEEDED.items():
        for key in sorted(keys - seen[name]):
            yield Problem(file=file, place=name, reason=f"the key '{key}' is missing")


def _wrong_value(key: str, value: str) -> str:
    if key == "Restart" and value not in RESTARTS:
        return f"Restart={value}: use one of {', '.join(sorted(RESTARTS))}"
    if key in YES_NO and value not in ("yes", "no", "true", "false"):
        return f"{key}={value}: use yes or no"
    if key.endswith("Sec") and not SECONDS.fullmatch(value):
        return f"{key}={value}: give seconds"
    if key == "LimitNOFILE" and not value.isdigit():
        return f"{key}={value}: give a whole number"
    program = value.split()[0] if value.split() else ""
    if key.startswith("Exec") and not program.lstrip("-+!@").startswith("/"):
        return f"{key} must name its program by a full path, not '{program}'"
    return ""
