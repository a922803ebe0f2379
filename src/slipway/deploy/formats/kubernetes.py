"""The Kubernetes objects that Slipway emits, field by field, so that a wrong one is caught without a cluster."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from slipway.deploy.shape import AnyOf, ListOf, MapOf, OneOf, Problem, Shape, Table, check_shape

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kKMGTPE]i?)?")
COUNT = AnyOf((int, re.compile(r"[0-9]{1,3}%")))
LABELS = MapOf(str)
METADATA = Table({"name": NAME, "labels": LABELS, "annotations": LABELS, "namespace": NAME}, ("name",))
SELECTOR = Table(
    {
        "matchLabels": LABELS,
        "matchExpressions": ListOf(
            Table({"key": str, "operator": OneOf(("In", "NotIn", "Exists", "DoesNotExist")), "values": ListOf(str)})
        ),
    }
)
PORT = AnyOf((int, NAME))
HTTP_GET = Table({"path": str, "port": PORT, "scheme": OneOf(("HTTP", "HTTPS")), "host": str}, ("port",))
PROBE = Table(
    {
        "httpGet": HTTP_GET,
        "tcpSocket": Table({"port": PORT, "host": str}, ("port",)),
        "exec": Table({"command": ListOf(str)}),
        "initialDelaySeconds": int,
        "periodSeconds": int,
        "timeoutSeconds": int,
        "failureThreshold": int,
        "successThreshold": int,
    }
)
KEY_REF = Table({"name": NAME, "key": str, "optional": bool}, ("name", "key"))
ENV = Table(
    {
        "name": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
        "value": str,
        "valueFrom": Table(
            {
                "secretKeyRef": KEY_REF,
                "configMapKeyRef": KEY_REF,
                "fieldRef": Table({"fieldPath": str, "apiVersion": str}, ("fieldPath",)),
            }
        ),
    },
    ("name",),
)
SECCOMP = Table({"type": OneOf(("RuntimeDefault", "Unconfined", "Localhost")), "localhostProfile": str}, ("type",))
SECURITY = Table(
    {
        "allowPrivilegeEscalation": bool,
        "privileged": bool,
        "readOnlyRootFilesystem": bool,
        "runAsNonRoot": bool,
        "runAsUser": int,
        "runAsGroup": int,
        "capabilities": Table({"drop": ListOf(str), "add": ListOf(str)}),
        "seccompProfile": SECCOMP,
    }
)
CONTAINER = Table(
    {
        "name": NAME,
        "image": str,
        "imagePullPolicy": OneOf(("Always", "IfNotPresent", "Never")),
        "command": ListOf(str),
        "args": ListOf(str),
        "workingDir": str,
        "env": ListOf(ENV),
        "ports": ListOf(
            Table({"containerPort": int, "name": NAME, "protocol": OneOf(("TCP", "UDP"))}, ("containerPort",))
        ),
        "resources": Table({"requests": MapOf(AnyOf((QUANTITY, int))), "limits": MapOf(AnyOf((QUANTITY, int)))}),
        "volumeMounts": ListOf(
            Table({"name": NAME, "mountPath": str, "readOnly": bool, "subPath": str}, ("name", "mountPath"))
        ),
        "livenessProbe": PROBE,
        "readinessProbe": PROBE,
        "startupProbe": PROBE,
        "securityContext": SECURITY,
    },
    ("name", "image"),
)
VOLUME = Table(
    {
        "name": NAME,
        "emptyDir": Table({"medium": OneOf(("", "Memory")), "sizeLimit": QUANTITY}),
        "persistentVolumeClaim": Table({"claimName": NAME, "readOnly": bool}, ("claimName",)),
        "configMap": Table({"name": NAME, "optional": bool}),
        "secret": Table({"secretName": NAME, "optional": bool}),
    },
    ("name",),
)
POD = Table(
    {
        "containers": ListOf(CONTAINER, least=1),
        "initContainers": ListOf(CONTAINER),
        "volumes": ListOf(VOLUME),
        "securityContext": Table(
            {
                "runAsNonRoot": bool,
                "runAsUser": int,
                "runAsGroup": int,
                "fsGroup": int,
                "seccompProfile": SECCOMP,
            }
        ),
        "automountServiceAccountToken": bool,
        "serviceAccountName": str,
        "restartPolicy": OneOf(("Always", "OnFailure", "Never")),
        "terminationGracePeriodSeconds": int,
        "nodeSelector": LABELS,
        "tolerations": ListOf(Table({"key": str, "operator": str, "value": str, "effect": str})),
    },
    ("containers",),
)
TEMPLATE = Table({"metadata": Table({"labels": LABELS, "annotations": LABELS}), "spec": POD}, ("spec",))
ROLLING = Table({"maxSurge": COUNT, "maxUnavailable": COUNT})
PEER = Table(
    {
        "podSelector": SELECTOR,
        "namespaceSelector": SELECTOR,
        "ipBlock": Table({"cidr": str, "except": ListOf(str)}, ("cidr",)),
    }
)
POLICY_PORT = Table({"port": PORT, "protocol": OneOf(("TCP", "UDP")), "endPort": int})
SETTLING = Table({"stabilizationWindowSeconds": int})
SCALING_BEHAVIOR = Table({"scaleDown": SETTLING, "scaleUp": SETTLING})
SPECS: dict[tuple[str, str], Shape] = {
    ("apps/v1", "Deployment"): Table(
        {
            "replicas": int,
            "selector": SELECTOR,
            "template": TEMPLATE,
            "strategy": Table({"type": OneOf(("Recreate", "RollingUpdate")), "rollingUpdate": ROLLING}),
            "minReadySeconds": int,
            "revisionHistoryLimit": int,
            "progressDeadlineSeconds": int,
        },
        ("selector", "template"),
    ),
    ("batch/v1", "Job"): Table(
        {"template": TEMPLATE, "backoffLimit": int, "ttlSecondsAfterFinished": int, "activeDeadlineSeconds": int},
        ("template",),
    ),
    ("v1", "Service"): Table(
        {
            "selector": LABELS,
            "type": OneOf(("ClusterIP", "NodePort", "LoadBalancer")),
            "ports": ListOf(
                Table({"port": int, "targetPort": PORT, "name": NAME, "protocol": OneOf(("TCP", "UDP"))}, ("port",)),
                least=1,
            ),
        },
        ("ports",),
    ),
    ("v1", "PersistentVolumeClaim"): Table(
        {
            "accessModes": ListOf(
                OneOf(("ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany", "ReadWriteOncePod")), least=1
            ),
            "resources": Table({"requests": MapOf(QUANTITY), "limits": MapOf(QUANTITY)}, ("requests",)),
            "storageClassName": str,
            "volumeMode": str,
        },
        ("accessModes", "resources"),
    ),
    ("policy/v1", "PodDisruptionBudget"): Table(
        {"selector": SELECTOR, "minAvailable": COUNT, "maxUnavailable": COUNT}, ("selector",)
    ),
    ("networking.k8s.io/v1", "NetworkPolicy"): Table(
        {
            "podSelector": SELECTOR,
            "policyTypes": ListOf(OneOf(("Ingress", "Egress"))),
            "ingress": ListOf(Table({"from": ListOf(PEER), "ports": ListOf(POLICY_PORT)})),
            "egress": ListOf(Table({"to": ListOf(PEER), "ports": ListOf(POLICY_PORT)})),
        },
        ("podSelector",),
    ),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): Table(
        {
            "scaleTargetRef": Table({"apiVersion": str, "kind": str, "name": NAME}, ("kind", "name")),
            "minReplicas": int,
            "maxReplicas": int,
            "metrics": ListOf(
                Table(
                    {
                        "type": OneOf(("Resource", "Pods", "Object", "External", "ContainerResource")),
                        "resource": Table(
                            {
                                "name": str,
                                "target": Table(
                                    {
                                        "type": OneOf(("Utilization", "Value", "AverageValue")),
                                        "averageUtilization": int,
                                        "averageValue": QUANTITY,
                                        "value": QUANTITY,
                                    },
                                    ("type",),
                                ),
                            },
                            ("name", "target"),
                        ),
                        "pods": Table(
                            {
                                "metric": Table({"name": str}, ("name",)),
                                "target": Table(
                                    {"type": OneOf(("AverageValue",)), "averageValue": QUANTITY},
                                    ("type", "averageValue"),
                                ),
                            },
                            ("metric", "target"),
                        ),
                    },
                    ("type",),
                )
            ),
            "behavior": SCALING_BEHAVIOR,
        },
        ("scaleTargetRef", "maxReplicas"),
    ),
    ("keda.sh/v1alpha1", "ScaledObject"): Table(
        {
            "scaleTargetRef": Table({"apiVersion": str, "kind": str, "name": NAME}, ("name",)),
            "minReplicaCount": int,
            "maxReplicaCount": int,
            "pollingInterval": int,
            "cooldownPeriod": int,
            "advanced": Table({"horizontalPodAutoscalerConfig": Table({"behavior": SCALING_BEHAVIOR})}),
            "triggers": ListOf(
                Table(
                    {
                        "type": OneOf(("prometheus",)),
                        "metadata": Table(
                            {"serverAddress": str, "query": str, "threshold": str},
                            ("serverAddress", "query", "threshold"),
                        ),
                    },
                    ("type", "metadata"),
                ),
                least=1,
            ),
        },
        ("scaleTargetRef", "triggers"),
    ),
}


def check_manifests(file: str, text: str) -> Iterator[Problem]:
    """Every problem of a file of Kubernetes objects. A kind that Slipway does not emit is a problem too."""
    try:
        objects = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError as wrong:
        yield Problem(file=file, place="", reason=f"is no YAML ({wrong})")
        return
    if not objects:
        yield Problem(file=file, place="", reason="holds no object")
    for one in objects:
        yield from _check_object(file, one)


def _check_object(file: str, one: Any) -> Iterator[Problem]:
    if not isinstance(one, dict):
        yield Problem(file=file, place="", reason="an object must be a table")
        return
    key = (str(one.get("apiVersion")), str(one.get("kind")))
    spec = SPECS.get(key)
    if spec is None:
        known = ", ".join(f"{kind} ({version})" for version, kind in SPECS)
        yield Problem(file=file, place="", reason=f"unknown object {key[1]} ({key[0]}). Known: {known}")
        return
    shape = Table(
        {"apiVersion": str, "kind": str, "metadata": METADATA, "spec": spec}, ("apiVersion", "kind", "metadata", "spec")
    )
    yield from check_shape(one, shape, file=file, place="")
    yield from _check_links(file, one)


def _check_links(file: str, one: dict[str, Any]) -> Iterator[Problem]:
    """What no field by itself shows: a selector that selects nothing, a mount without its volume."""
    spec = one.get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    if not isinstance(template, dict) or not isinstance(spec, dict):
        return
    selector = spec.get("selector") or {}
    wanted = selector.get("matchLabels") if isinstance(selector, dict) else None
    labels = (template.get("metadata") or {}).get("labels") or {}
    if isinstance(wanted, dict) and any(labels.get(name) != value for name, value in wanted.items()):
        yield Problem(file=file, place="spec.selector", reason="does not select the pods of its own template")
    pod = template.get("spec") or {}
    volumes = {volume.get("name") for volume in pod.get("volumes") or () if isinstance(volume, dict)}
    for container in [*(pod.get("containers") or ()), *(pod.get("initContainers") or ())]:
        for mount in (container.get("volumeMounts") or ()) if isinstance(container, dict) else ():
            if mount.get("name") not in volumes:
                yield Problem(
                    file=file,
                    place=f"spec.template.spec.{container.get('name')}",
                    reason=f"mounts '{mount.get('name')}', which is no volume of the pod",
                )
