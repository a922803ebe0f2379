"""Each checker names the place and the reason of what it would refuse."""

import pytest

from slipway.deploy.container import check_containerfile
from slipway.deploy.formats.compose import check_compose
from slipway.deploy.formats.kubernetes import check_manifests
from slipway.deploy.formats.systemd import check_unit
from slipway.deploy.formats.vllm import check_argv

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: lamps}
spec:
  selector: {matchLabels: {app: lamps}}
  template:
    metadata: {labels: {app: lamps}}
    spec:
      containers:
        - name: gateway
          image: lamps:1
"""

MANIFESTS = [
    pytest.param(DEPLOYMENT, "", id="a sound one"),
    pytest.param(
        DEPLOYMENT.replace("containers", "container"), "unknown field 'container'. Did you mean", id="misspelt"
    ),
    pytest.param(DEPLOYMENT.replace("image: lamps:1", ""), "'image' is missing", id="a field is missing"),
    pytest.param(
        DEPLOYMENT + "  replicas: '2'\n", "spec.replicas: must be a whole number, is text", id="text for a number"
    ),
    pytest.param(
        DEPLOYMENT.replace("{app: lamps}}\n    spec", "{app: lamp}}\n    spec"), "does not select", id="wrong label"
    ),
    pytest.param(DEPLOYMENT.replace("apps/v1", "apps/v2"), "unknown object Deployment (apps/v2)", id="wrong version"),
    pytest.param(
        DEPLOYMENT.replace("name: gateway", "name: Gateway"), "does not have the form", id="a name in capitals"
    ),
    pytest.param("a: [", "is no YAML", id="no YAML"),
    pytest.param("", "holds no object", id="empty"),
    pytest.param(
        DEPLOYMENT + "          volumeMounts: [{name: state, mountPath: /s}]\n",
        "no volume of the pod",
        id="mount without volume",
    ),
]


@pytest.mark.parametrize(("text", "reason"), MANIFESTS)
def test_kubernetes(text: str, reason: str) -> None:
    found = " | ".join(map(str, check_manifests("x.yaml", text)))
    assert reason in found if reason else not found


COMPOSE = [
    pytest.param("services: {a: {image: x}}", "", id="a sound one"),
    pytest.param("services: {a: {imge: x}}", "unknown field 'imge'. Did you mean 'image'", id="misspelt"),
    pytest.param("services: {a: {}}", "neither image nor build", id="nothing to run"),
    pytest.param("services: {a: {image: x, ports: [eighty]}}", "does not have the form", id="a port in words"),
    pytest.param("services: {a: {image: x, depends_on: [b]}}", "no service", id="depends on nobody"),
    pytest.param("services: {a: {image: x, volumes: ['v:/v']}}", "not declared", id="a volume nobody declares"),
    pytest.param("services: {a: {image: x, secrets: [s]}}", "not declared", id="a secret nobody declares"),
    pytest.param("services: {a: {image: x, deploy: {replicas: two}}}", "whole number", id="words for a number"),
    pytest.param("- a", "must be a table", id="a list"),
]


@pytest.mark.parametrize(("text", "reason"), COMPOSE)
def test_compose(text: str, reason: str) -> None:
    found = " | ".join(map(str, check_compose("compose.yaml", text)))
    assert reason in found if reason else not found


UNIT = "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/x\n[Install]\nWantedBy=multi-user.target\n"
UNITS = [
    pytest.param(UNIT, "", id="a sound one"),
    pytest.param(UNIT.replace("ExecStart", "ExecStrat"), "Did you mean 'ExecStart'", id="misspelt key"),
    pytest.param(UNIT.replace("[Service]", "[Services]"), "unknown section", id="misspelt section"),
    pytest.param(UNIT.replace("/bin/x", "x"), "full path", id="a program without path"),
    pytest.param(
        UNIT.replace("[Install]", "Restart=sometimes\n[Install]"), "Restart=sometimes", id="unknown restart rule"
    ),
    pytest.param(UNIT.replace("[Install]", "RestartSec=soon\n[Install]"), "give seconds", id="no seconds"),
]


@pytest.mark.parametrize(("text", "reason"), UNITS)
def test_systemd(text: str, reason: str) -> None:
    found = " | ".join(map(str, check_unit("x.service", text)))
    assert reason in found if reason else not found


ARGV = [
    pytest.param(["vllm", "serve", "m", "--max-model-len", "10"], "", id="a sound one"),
    pytest.param(["vllm", "serve", "m", "--max-model-length", "10"], "unknown option", id="misspelt"),
    pytest.param(["vllm", "serve", "m", "--max-model-len"], "not a whole number", id="a value is missing"),
    pytest.param(["vllm", "serve", "m", "--gpu-memory-utilization", "9"], "share", id="more than all memory"),
    pytest.param(["vllm", "serve", "m", "--dtype", "bf32"], "--dtype", id="unknown number type"),
    pytest.param(["vllm", "serve", "--port", "1"], "vllm serve MODEL", id="no model"),
]


@pytest.mark.parametrize(("argv", "reason"), ARGV)
def test_vllm(argv: list[str], reason: str) -> None:
    found = " | ".join(map(str, check_argv("argv.json", argv)))
    assert reason in found if reason else not found


def test_a_container_as_root_is_a_problem() -> None:
    assert "root" in str(next(check_containerfile("Containerfile", "FROM x\nRUN y\n")))
