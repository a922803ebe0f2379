"""Autoscalers of a hosted model on Kubernetes, with the bounds and the rate a replica that its plan found."""

from typing import Any

from slipway.deploy.deployment import ModelServer

SETTLE_S = 300
"""Seconds without need before a replica goes: loading weights again takes minutes."""
WAITING = 4
"""Requests that wait at one replica before another one starts."""
RATE_METRIC = "vllm_requests_per_second"

Object = dict[str, Any]


def scales(model: ModelServer) -> bool:
    """Whether the plan left something to scale: its calmest minutes need fewer replicas than its busiest."""
    return 0 < model.least_replicas < most_replicas(model) and model.per_second > 0


def most_replicas(model: ModelServer) -> int:
    """What later traffic may need, or else what the plan's busiest minutes do."""
    return max(model.replicas, model.most_replicas)


def keda(name: str, labels: dict[str, str], model: ModelServer, *, prometheus: str) -> Object:
    """A ScaledObject that follows the requests that vLLM counts in Prometheus."""
    pods = f'pod=~"{name}-.*"'
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "scaleTargetRef": {"name": name},
            "minReplicaCount": model.least_replicas,
            "maxReplicaCount": most_replicas(model),
            "pollingInterval": 15,
            "cooldownPeriod": SETTLE_S,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior()}},
            "triggers": [
                _trigger(prometheus, f"sum(rate(vllm:request_success_total{{{pods}}}[1m]))", f"{model.per_second:.3g}"),
                _trigger(prometheus, f"sum(vllm:num_requests_waiting{{{pods}}})", str(WAITING)),
            ],
        },
    }


def horizontal(name: str, labels: dict[str, str], model: ModelServer) -> Object:
    """The same without KEDA: an autoscaler on a metric that an adapter of Prometheus has to offer."""
    rate = {"type": "AverageValue", "averageValue": f"{max(1, round(1000 * model.per_second))}m"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": model.least_replicas,
            "maxReplicas": most_replicas(model),
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": RATE_METRIC}, "target": rate}}],
            "behavior": _behavior(),
        },
    }


def _trigger(address: str, query: str, threshold: str) -> Object:
    return {
        "type": "prometheus",
        "metadata": {"serverAddress": address, "query": query, "threshold": threshold},
    }


def _behavior() -> Object:
    return {"scaleDown": {"stabilizationWindowSeconds": SETTLE_S}, "scaleUp": {"stabilizationWindowSeconds": 0}}
