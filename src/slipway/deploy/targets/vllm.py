"""A machine with accelerators: the vLLM server of a hosted model, as a command, a systemd unit and a compose file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from slipway.deploy.deployment import Deployment, Files
from slipway.deploy.formats.compose import check_compose
from slipway.deploy.formats.systemd import check_unit
from slipway.deploy.formats.vllm import check_argv
from slipway.deploy.shape import Problem
from slipway.deploy.targets.base import targets
from slipway.deploy.vllm_command import PORT, copies_per_machine, engine_table, machines, vllm_argv
from slipway.domain.errors import ModelNotPlanned

UNIT = """\
# vLLM for {application}: {model} on {devices} x {hardware}; machines of this kind that the plan needs: {machines}.
[Unit]
Description=vLLM server of {model} for {application}
After=network-online.target
Wants=network-online.target

[Service]
Type=simple
User={user}
EnvironmentFile=-/etc/slipway/{application}-model.env
ExecStart={program} {arguments}
Restart=on-failure
RestartSec=5s
TimeoutStartSec=1800s
TimeoutStopSec=60s
LimitNOFILE=65536
NoNewPrivileges=yes
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""

README = """\
# The model of {application} with vLLM, on {machines} machine(s) with {hardware}

1. Either the unit: copy environment.example to /etc/slipway/{application}-model.env, mode 600, fill it in, copy
   vllm-{application}.service to /etc/systemd/system, `systemctl enable --now vllm-{application}`.
   Or the container: fill in .env and run `docker compose up --detach`.
2. `curl http://127.0.0.1:8000/health` answers once the weights are loaded; that can take minutes.
3. Put engine.toml's table into slipway.toml and cut a release: `slipway up`.
4. Measure it and compare with the plan: `slipway evaluate run --suite speed`.
"""


@targets.register("vllm")
@dataclass(frozen=True)
class Vllm:
    """A machine with accelerators: `vllm serve` as argv, systemd unit and compose file, and the engine's table."""

    program: str = "/usr/local/bin/vllm"
    user: str = "vllm"
    image: str = "docker.io/vllm/vllm-openai:v0.11.0"
    address: str = "http://127.0.0.1:8000/v1"
    """Where the gateway reaches the server."""

    def emit(self, deployment: Deployment) -> Files:
        """Raises `ModelNotPlanned` when the plan has no hosted model."""
        model = deployment.model
        if model is None:
            raise ModelNotPlanned(deployment.application)
        copies = copies_per_machine(model)
        # On the machine itself only this machine's gateway may ask; in its container the port is published on loopback.
        argv = vllm_argv(model, copies=copies, host="127.0.0.1")
        unit = UNIT.format(
            application=deployment.application,
            model=model.name,
            devices=copies * model.devices,
            hardware=model.hardware,
            machines=machines(model),
            user=self.user,
            program=self.program,
            arguments=" ".join(argv[1:]),
        )
        compose = {
            "name": f"{deployment.application}-model",
            "services": {
                "vllm": {
                    "image": self.image,
                    "command": vllm_argv(model, copies=copies)[2:],
                    "environment": {"HF_HOME": "/models", "HF_TOKEN": None, "VLLM_API_KEY": None},
                    "ports": [f"127.0.0.1:{PORT}:{PORT}"],
                    "volumes": ["weights:/models"],
                    "shm_size": "16gb",
                    "restart": "unless-stopped",
                    "deploy": {
                        "resources": {
                            "reservations": {
                                "devices": [
                                    {"driver": "nvidia", "count": copies * model.devices, "capabilities": ["gpu"]}
                                ]
                            }
                        }
                    },
                }
            },
            "volumes": {"weights": None},
        }
        return {
            "argv.json": json.dumps(argv, indent=1) + "\n",
            f"vllm-{deployment.application}.service": unit,
            "compose.yaml": yaml.safe_dump(compose, sort_keys=False, width=120),
            "engine.toml": engine_table(model, self.address),
            "README.md": README.format(
                application=deployment.application, machines=machines(model), hardware=model.hardware
            ),
            "environment.example": "# Fill in; never into git.\nHF_TOKEN=\nVLLM_API_KEY=\n",
        }

    def validate(self, files: Mapping[str, str]) -> list[Problem]:
        found: list[Problem] = []
        for path, text in files.items():
            if path.endswith(".service"):
                found += check_unit(path, text)
        try:
            argv = json.loads(files.get("argv.json", "null"))
        except ValueError as wrong:
            argv, found = None, [*found, Problem(file="argv.json", place="", reason=f"is no JSON ({wrong})")]
        if not isinstance(argv, list) or not all(isinstance(one, str) for one in argv):
            found.append(Problem(file="argv.json", place="", reason="must be a list of texts"))
        else:
            found += check_argv("argv.json", argv)
        if "compose.yaml" in files:
            problems = list(check_compose("compose.yaml", files["compose.yaml"]))
            found += problems
            if not problems:
                command = yaml.safe_load(files["compose.yaml"])["services"]["vllm"].get("command", [])
                found += check_argv("compose.yaml", ["vllm", "serve", *command])
        return found
