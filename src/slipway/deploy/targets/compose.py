"""One machine with containers: a compose file for the gateway, its database and the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from slipway.deploy.container import check_containerfile, container_files
from slipway.deploy.deployment import Deployment, Files, ModelServer
from slipway.deploy.formats.compose import check_compose
from slipway.deploy.formats.vllm import check_argv
from slipway.deploy.shape import Problem
from slipway.deploy.targets.base import targets
from slipway.deploy.vllm_command import PORT, copies_per_machine, engine_table, vllm_argv

README = """\
# {application} with compose

1. These files lie in a folder inside the application's folder: the image is built from the folder above.
2. Copy environment.example to .env beside compose.yaml, mode 600, and fill in what is secret.
3. `docker compose up --build --detach`, or the same with podman.
4. `curl http://{bind}:{port}/healthz`. Put a proxy with TLS before it.
"""


@targets.register("compose")
@dataclass(frozen=True)
class Compose:
    """One machine with Docker or Podman: gateway, Postgres where it is used, and vLLM where a model is hosted."""

    vllm_image: str = "docker.io/vllm/vllm-openai:v0.11.0"
    postgres_image: str = "docker.io/pgvector/pgvector:pg17"
    bind: str = "127.0.0.1"
    """Address of the machine on which the gateway is reachable; put a proxy with TLS before any other."""

    def emit(self, deployment: Deployment) -> Files:
        services: dict[str, Any] = {"gateway": self._gateway(deployment)}
        volumes: dict[str, Any] = {"state": None}
        extra: Files = {}
        written: dict[str, Any] = {"name": deployment.application, "services": services, "volumes": volumes}
        if deployment.database == "postgres":
            services["database"] = self._database()
            services["gateway"]["depends_on"] = {"database": {"condition": "service_healthy"}}
            volumes["rows"] = None
            written["secrets"] = {"database_password": {"environment": "POSTGRES_PASSWORD"}}
        if deployment.model is not None:
            services["model"] = self._model(deployment.model)
            volumes["weights"] = None
            extra["engine.toml"] = engine_table(deployment.model, f"http://model:{PORT}/v1")
        text = yaml.safe_dump(written, sort_keys=False, width=120)
        return {
            "compose.yaml": f"# {deployment.application}, release {deployment.release or 'not cut yet'}\n{text}",
            "environment.example": _environment(deployment),
            "README.md": README.format(application=deployment.application, bind=self.bind, port=deployment.port),
            **extra,
            **container_files(deployment),
        }

    def validate(self, files: Mapping[str, str]) -> list[Problem]:
        if "compose.yaml" not in files:
            return [Problem(file="compose.yaml", place="", reason="the file is missing")]
        found = list(check_compose("compose.yaml", files["compose.yaml"]))
        if not found:
            model = yaml.safe_load(files["compose.yaml"])["services"].get("model")
            if model is not None:
                found += check_argv("compose.yaml", ["vllm", "serve", *model.get("command", [])])
        if "Containerfile" in files:
            found += check_containerfile("Containerfile", files["Containerfile"])
        return found

    def _gateway(self, deployment: Deployment) -> dict[str, Any]:
        # A name without value is taken from the environment of whoever starts compose.
        environment: dict[str, Any] = {"SLIPWAY_SERVER__HOST": "0.0.0.0", "SLIPWAY_SERVER__PORT": str(deployment.port)}
        environment |= deployment.environment
        environment |= dict.fromkeys(deployment.secrets)
        return {
            "image": deployment.image,
            "build": {"context": "..", "dockerfile": "deploy/Containerfile"},
            "environment": environment,
            "ports": [f"{self.bind}:{deployment.port}:{deployment.port}"],
            "volumes": ["state:/app/.slipway"],
            "restart": "unless-stopped",
            "read_only": True,
            "tmpfs": ["/tmp"],
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "stop_grace_period": "30s",
        }

    def _database(self) -> dict[str, Any]:
        return {
            "image": self.postgres_image,
            "environment": {"POSTGRES_USER": "slipway", "POSTGRES_PASSWORD_FILE": "/run/secrets/database_password"},
            "secrets": ["database_password"],
            "volumes": ["rows:/var/lib/postgresql/data"],
            "healthcheck": {
                "test": ["CMD", "pg_isready", "-U", "slipway"],
                "interval": "5s",
                "timeout": "3s",
                "retries": 20,
            },
            "restart": "unless-stopped",
        }

    def _model(self, model: ModelServer) -> dict[str, Any]:
        copies = copies_per_machine(model)
        return {
            "image": self.vllm_image,
            # The image's entrypoint is `vllm serve`.
            "command": vllm_argv(model, copies=copies)[2:],
            "environment": {"HF_HOME": "/models", "HF_TOKEN": None, "VLLM_API_KEY": None},
            "expose": [str(PORT)],
            "volumes": ["weights:/models"],
            "shm_size": "16gb",
            "restart": "unless-stopped",
            "healthcheck": {
                "test": ["CMD", "curl", "-fsS", f"http://127.0.0.1:{PORT}/health"],
                "interval": "10s",
                "timeout": "3s",
                "retries": 3,
                "start_period": "600s",
            },
            "deploy": {
                "resources": {
                    "reservations": {
                        "devices": [{"driver": "nvidia", "count": copies * model.devices, "capabilities": ["gpu"]}]
                    }
                }
            },
        }


def _environment(deployment: Deployment) -> str:
    names = list(deployment.secrets)
    if deployment.database == "postgres":
        names.append("POSTGRES_PASSWORD")
    if deployment.model is not None:
        names += ["HF_TOKEN", "VLLM_API_KEY"]
    lines = "".join(f"{name}=\n" for name in names)
    return f"# Copy to .env beside compose.yaml, mode 600, and fill in. It never goes into git.\n{lines}"
