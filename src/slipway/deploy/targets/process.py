"""One machine, no container: a systemd unit that keeps the server running."""

from collections.abc import Mapping
from dataclasses import dataclass

from slipway.deploy.container import check_containerfile, container_files
from slipway.deploy.deployment import Deployment, Files
from slipway.deploy.formats.systemd import check_unit
from slipway.deploy.shape import Problem
from slipway.deploy.targets.base import targets

UNIT = """\
# {application}, release {release}
[Unit]
Description=Slipway application {application}
After=network-online.target
Wants=network-online.target

[Service]
Type=simple
User={user}
WorkingDirectory={folder}
EnvironmentFile=-/etc/slipway/{application}.env
ExecStart={program} up --dir {folder}
Restart=on-failure
RestartSec=2s
KillSignal=SIGTERM
TimeoutStopSec=30s
LimitNOFILE=65536
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={folder}

[Install]
WantedBy=multi-user.target
"""

README = """\
# {application} on one machine

1. Copy the application's folder to {folder}; it belongs to the user {user}.
2. Copy environment.example to /etc/slipway/{application}.env, mode 600, and fill in what is secret.
3. Copy slipway-{application}.service to /etc/systemd/system, then run
   `systemctl daemon-reload` and `systemctl enable --now slipway-{application}`.
4. Ask for its health: `curl http://127.0.0.1:PORT/healthz`. Put a proxy with TLS before it; it binds loopback only.
"""


@targets.register("process")
@dataclass(frozen=True)
class Process:
    """One machine without containers: a systemd unit, and the environment file it reads."""

    folder: str = "/srv/slipway"
    """Where the application's folder lies on the machine."""
    program: str = "/usr/local/bin/slipway"
    user: str = "slipway"

    def emit(self, deployment: Deployment) -> Files:
        unit = UNIT.format(
            application=deployment.application,
            release=deployment.release or "not cut yet",
            folder=self.folder,
            program=self.program,
            user=self.user,
        )
        lines = [f"{name}={value}\n" for name, value in deployment.environment.items()]
        lines += [f"{name}=\n" for name in deployment.secrets]
        return {
            f"slipway-{deployment.application}.service": unit,
            "environment.example": f"# Copy to /etc/slipway/{deployment.application}.env, mode 600, and fill in.\n"
            f"SLIPWAY_SERVER__PORT={deployment.port}\n{''.join(lines)}",
            "README.md": README.format(application=deployment.application, folder=self.folder, user=self.user),
            **container_files(deployment),
        }

    def validate(self, files: Mapping[str, str]) -> list[Problem]:
        units = {path: text for path, text in files.items() if path.endswith(".service")}
        found = [problem for path, text in units.items() for problem in check_unit(path, text)]
        if not units:
            found.append(Problem(file=".", place="", reason="there is no systemd unit (*.service)"))
        if "Containerfile" in files:
            found += check_containerfile("Containerfile", files["Containerfile"])
        return found
