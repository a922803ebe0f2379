"""A Kubernetes cluster: gateway, its volume, its limits on the network, and the model where one is hosted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from slipway.deploy import autoscaling
from slipway.deploy.container import check_containerfile, container_files
from slipway.deploy.deployment import Deployment, Files, ModelServer
from slipway.deploy.formats.kubernetes import check_manifests
from slipway.deploy.formats.vllm import check_argv
from slipway.deploy.shape import Problem
from slipway.deploy.targets.base import targets
from slipway.deploy.vllm_command import PORT, engine_table, vllm_argv

Object = dict[str, Any]
LOCKED: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@targets.register("kubernetes")
@dataclass(frozen=True)
class Kubernetes:
    """A cluster: Deployment, Service, volume, network policy, disruption budget, autoscaler; vLLM beside them."""

    vllm_image: str = "docker.io/vllm/vllm-openai:v0.11.0"
    state_size: str = "10Gi"
    weights_size: str = "200Gi"
    most_replicas: int = 8
    """Upper bound of the autoscaler; it is written only for a gateway on Postgres."""
    prometheus: str = "http://prometheus-server.monitoring.svc"
    """Where the autoscaler of a hosted model asks for its requests a second."""

    def emit(self, deployment: Deployment) -> Files:
        files = {
            "gateway.yaml": _write(self._gateway(deployment)),
            "network.yaml": _write([_network(deployment)]),
            "README.md": _readme(deployment),
            **container_files(deployment),
        }
        if deployment.database == "postgres":
            files["scaling.yaml"] = _write(self._scaling(deployment))
            files["build.yaml"] = _write([_build(deployment)])
        if deployment.model is not None:
            files["model.yaml"] = _write(self._model(deployment, deployment.model))
            files["engine.toml"] = engine_table(deployment.model, f"http://{deployment.application}-model:{PORT}/v1")
            files |= self._model_scaling(deployment, deployment.model)
        return files

    def validate(self, files: Mapping[str, str]) -> list[Problem]:
        manifests = {path: text for path, text in files.items() if path.endswith((".yaml", ".yml"))}
        found = [problem for path, text in manifests.items() for problem in check_manifests(path, text)]
        if not manifests:
            found.append(Problem(file=".", place="", reason="there is no manifest (*.yaml)"))
        if "model.yaml" in files and not found:
            container = next(yaml.safe_load_all(files["model.yaml"]))["spec"]["template"]["spec"]["containers"][0]
            found += check_argv("model.yaml", container.get("command", []))
        if "Containerfile" in files:
            found += check_containerfile("Containerfile", files["Containerfile"])
        return found

    def _gateway(self, deployment: Deployment) -> list[Object]:
        labels = _labels(deployment, "gateway")
        name = deployment.application
        shared = deployment.database == "postgres"
        container = {
            "name": "gateway",
            "image": deployment.image,
            "args": ["slipway", "serve" if shared else "up"],
            "env": _environment(deployment),
            "ports": [{"name": "http", "containerPort": deployment.port}],
            "startupProbe": {
                "httpGet": {"path": "/healthz", "port": "http"},
                "periodSeconds": 5,
                "failureThreshold": 120,
            },
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10},
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 5},
            "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
            "volumeMounts": [{"name": "state", "mountPath": "/app/.slipway"}, {"name": "tmp", "mountPath": "/tmp"}],
            "securityContext": LOCKED,
        }
        spec = {
            "replicas": deployment.replicas if shared else 1,
            "selector": {"matchLabels": labels},
            # SQLite has one writer on one machine: the old pod goes before the new one comes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
            if shared
            else {"type": "Recreate"},
            "template": {"metadata": {"labels": labels}, "spec": _pod(container, claim=f"{name}-state")},
        }
        return [
            _object("apps/v1", "Deployment", f"{name}-gateway", labels, spec),
            _object(
                "v1",
                "Service",
                f"{name}-gateway",
                labels,
                {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
            ),
            _object(
                "v1",
                "PersistentVolumeClaim",
                f"{name}-state",
                labels,
                {
                    "accessModes": ["ReadWriteMany" if shared else "ReadWriteOnce"],
                    "resources": {"requests": {"storage": self.state_size}},
                },
            ),
        ]

    def _scaling(self, deployment: Deployment) -> list[Object]:
        labels = _labels(deployment, "gateway")
        name = f"{deployment.application}-gateway"
        least = max(2, deployment.replicas)
        return [
            _object(
                "policy/v1",
                "PodDisruptionBudget",
                name,
                labels,
                {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
            ),
            _object(
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                name,
                labels,
                {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                    "minReplicas": least,
                    "maxReplicas": max(least, self.most_replicas),
                    "metrics": [
                        {
                            "type": "Resource",
                            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 65}},
                        }
                    ],
                },
            ),
        ]

    def _model_scaling(self, deployment: Deployment, model: ModelServer) -> Files:
        """In a folder of its own: a cluster has one of both, and `kubectl apply -f .` leaves it alone."""
        if not autoscaling.scales(model):
            return {}
        name, labels = f"{deployment.application}-model", _labels(deployment, "model")
        scaled = autoscaling.keda(name, labels, model, prometheus=self.prometheus)
        return {
            "autoscaling/keda.yaml": _write([scaled]),
            "autoscaling/hpa.yaml": _write([autoscaling.horizontal(name, labels, model)]),
        }

    def _model(self, deployment: Deployment, model: ModelServer) -> list[Object]:
        labels = _labels(deployment, "model")
        name = f"{deployment.application}-model"
        resource = "amd.com/gpu" if model.hardware.startswith("mi") else "nvidia.com/gpu"
        container = {
            "name": "vllm",
            "image": self.vllm_image,
            "command": vllm_argv(model),
            "env": [
                {"name": "HF_HOME", "value": "/models"},
                *(
                    {"name": one, "valueFrom": {"secretKeyRef": {"name": f"{name}-keys", "key": one, "optional": True}}}
                    for one in ("HF_TOKEN", "VLLM_API_KEY")
                ),
            ],
            "ports": [{"name": "http", "containerPort": PORT}],
            "startupProbe": {
                "httpGet": {"path": "/health", "port": "http"},
                "periodSeconds": 10,
                "failureThreshold": 180,
            },
            "livenessProbe": {
                "httpGet": {"path": "/health", "port": "http"},
                "periodSeconds": 15,
                "failureThreshold": 4,
            },
            "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 5},
            "resources": {"limits": {resource: str(model.devices)}},
            "volumeMounts": [
                {"name": "weights", "mountPath": "/models"},
                # Processes of one server exchange tensors through shared memory; the default of 64 MB is too small.
                {"name": "shared-memory", "mountPath": "/dev/shm"},
            ],
        }
        pod = {
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": [
                {"name": "weights", "persistentVolumeClaim": {"claimName": f"{name}-weights"}},
                {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},
            ],
        }
        return [
            _object(
                "apps/v1",
                "Deployment",
                name,
                labels,
                {
                    "replicas": model.replicas,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                },
            ),
            _object(
                "v1",
                "Service",
                name,
                labels,
                {"selector": labels, "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]},
            ),
            _object(
                "v1",
                "PersistentVolumeClaim",
                f"{name}-weights",
                labels,
                {
                    "accessModes": ["ReadWriteMany" if model.replicas > 1 else "ReadWriteOnce"],
                    "resources": {"requests": {"storage": self.weights_size}},
                },
            ),
        ]


def _build(deployment: Deployment) -> Object:
    """A job that builds index, release and evidence once, before or while the gateway's copies start."""
    labels = _labels(deployment, "build")
    container = {
        "name": "build",
        "image": deployment.image,
        "args": ["slipway", "up", "--no-serve"],
        "env": _environment(deployment),
        "volumeMounts": [{"name": "state", "mountPath": "/app/.slipway"}, {"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": LOCKED,
    }
    pod = {**_pod(container, claim=f"{deployment.application}-state"), "restartPolicy": "OnFailure"}
    spec = {"backoffLimit": 3, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return _object("batch/v1", "Job", f"{deployment.application}-build", labels, spec)


def _network(deployment: Deployment) -> Object:
    """Who may reach the gateway: its own namespace, on its one port. Open it further for your ingress."""
    labels = _labels(deployment, "gateway")
    return _object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        f"{deployment.application}-gateway",
        labels,
        {
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": "http", "protocol": "TCP"}]}],
        },
    )


def _scaling_words(deployment: Deployment) -> str:
    model = deployment.model
    if model is None or not autoscaling.scales(model):
        return ""
    return f"""
## The model follows its traffic

The plan needs {model.least_replicas} replicas in the calmest minutes and {model.replicas} in the busiest, each for
{model.per_second:.3g} requests a second; later traffic may take {autoscaling.most_replicas(model)}. Apply one of the
two, not both:

- `kubectl apply -f autoscaling/keda.yaml` where KEDA is installed and Prometheus scrapes vLLM.
- `kubectl apply -f autoscaling/hpa.yaml` where an adapter of Prometheus offers `{autoscaling.RATE_METRIC}`, the rate of
  `vllm:request_success_total` of each pod.

A new replica has to load its weights first: bursts shorter than that are carried by the lower bound alone.
"""


def _readme(deployment: Deployment) -> str:
    keys = " ".join(f"--from-literal={name}=…" for name in deployment.secrets)
    return f"""\
# {deployment.application} on Kubernetes

1. Build the image in the application's folder (Containerfile says how), push it, and name it in [deploy] image.
2. Create the secret once, outside git:
   `kubectl create secret generic {deployment.application}-keys {keys}`
   (a hosted model may need `{deployment.application}-model-keys` with HF_TOKEN and VLLM_API_KEY).
3. `kubectl apply -f .` and wait: `kubectl rollout status deployment/{deployment.application}-gateway`.
4. The network policy lets in pods of the same namespace; open it for your ingress.

With SQLite there is one copy of the gateway. For several, set [store] url to a Postgres database and emit again.
{_scaling_words(deployment)}"""


def _pod(container: Object, *, claim: str) -> Object:
    return {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 30,
        "containers": [container],
        "volumes": [{"name": "state", "persistentVolumeClaim": {"claimName": claim}}, {"name": "tmp", "emptyDir": {}}],
    }


def _environment(deployment: Deployment) -> list[Object]:
    """Settings in the open, secrets by reference to a Secret that the operator creates."""
    keys = f"{deployment.application}-keys"
    return [
        {"name": "SLIPWAY_SERVER__HOST", "value": "0.0.0.0"},
        {"name": "SLIPWAY_SERVER__PORT", "value": str(deployment.port)},
        *({"name": name, "value": value} for name, value in deployment.environment.items()),
        *({"name": one, "valueFrom": {"secretKeyRef": {"name": keys, "key": one}}} for one in deployment.secrets),
    ]


def _labels(deployment: Deployment, part: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": deployment.application, "app.kubernetes.io/component": part}


def _object(version: str, kind: str, name: str, labels: Mapping[str, str], spec: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": dict(labels)}, "spec": spec}


class _Plain(yaml.SafeDumper):
    """YAML without anchors: people read these files."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write(objects: list[Object]) -> str:
    return "---\n".join(yaml.dump(one, Dumper=_Plain, sort_keys=False, width=120) for one in objects)
