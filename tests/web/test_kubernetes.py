"""The Kubernetes manifests: built by kubectl, checked against Kubernetes' schemas and the app."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import Settings
from tests.support.programs import program
from tests.support.servers import REPOSITORY

OVERLAYS = REPOSITORY / "deploy" / "kubernetes" / "overlays"
SECRETS = {
    "REDIS_URL": "rediss://valkey.example",
    "SECRET_KEY": "only-for-this-test-0123456789abcdef",
    "OMNIFUND_CLIENT_SECRET": "only-for-this-test",
    "METRICS_TOKEN": "only-for-this-test",
}

ENVIRONMENTS = ("sandbox", "production")
in_each = pytest.mark.parametrize("overlay", ENVIRONMENTS)


def build(overlay: str) -> str:
    """Return what ``kubectl apply -k`` would send."""
    command = [program("kubectl"), "kustomize", str(OVERLAYS / overlay)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def resources(overlay: str) -> dict[str, Any]:
    """The resources by kind; there is one of each."""
    loaded = list(yaml.safe_load_all(build(overlay)))
    by_kind = {each["kind"]: each for each in loaded}
    assert len(by_kind) == len(loaded)
    return by_kind


def test_the_manifests_are_valid(tmp_path: Path) -> None:
    """By a validator with Kubernetes' own schemas, which refuses an unknown key too."""
    files = []
    for overlay in ENVIRONMENTS:
        files.append(tmp_path / f"{overlay}.yaml")
        files[-1].write_text(build(overlay))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(build("sandbox").replace("readinessProbe", "readinessProb"))
    command = [program("kubernetes-validate"), "--strict", "--quiet", *map(str, files), str(wrong)]
    answer = subprocess.run(command, capture_output=True, text=True)
    (complaint,) = (answer.stdout + answer.stderr).splitlines()
    assert str(wrong) in complaint
    assert "'readinessProb' was unexpected" in complaint


@in_each
def test_the_app_takes_the_variables(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the secret that is created elsewhere, of which the comment names every key."""
    found = resources(overlay)
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    variables = found["ConfigMap"]["data"] | SECRETS
    variables |= {each["name"]: each["value"] for each in container["env"]}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment(None).omnifund_environment == overlay
    assert container["envFrom"][0]["configMapRef"]["name"] == found["ConfigMap"]["metadata"]["name"]
    base = (REPOSITORY / "deploy" / "kubernetes" / "base" / "deployment.yaml").read_text()
    assert all(name in base for name in SECRETS)


@in_each
def test_the_probes_allow_what_the_app_may_take(overlay: str) -> None:
    """K34, K51: a probe may wait 10 s for a thread, and Redis' absence restarts no pod."""
    pod = resources(overlay)["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    live, ready = container["livenessProbe"], container["readinessProbe"]
    assert (live["httpGet"]["path"], ready["httpGet"]["path"]) == ("/healthz", "/readyz")
    assert live["timeoutSeconds"] == ready["timeoutSeconds"] == 10
    assert "httpHeaders" not in str(container), "probes need no Host header"
    (drain,) = [int(each["value"]) for each in container["env"] if each["name"] == "DRAIN_SECONDS"]
    gunicorn = (REPOSITORY / "gunicorn.conf.py").read_text()
    assert "graceful_timeout = 30" in gunicorn
    assert pod["terminationGracePeriodSeconds"] >= drain + 30
    assert drain >= ready["periodSeconds"] * ready["failureThreshold"], "the stop is noticed"


@in_each
def test_the_pod_is_run_with_the_care_of_the_compose_file(overlay: str) -> None:
    pod = resources(overlay)["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"USER {pod['securityContext']['runAsUser']}" in (REPOSITORY / "Dockerfile").read_text()
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]  # noqa: S108 - in the pod
    assert pod["automountServiceAccountToken"] is False


@in_each
def test_an_update_and_a_disruption_leave_pods_that_serve(overlay: str) -> None:
    found = resources(overlay)
    assert found["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in found["Deployment"]["spec"], "the autoscaler decides"
    assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    least = found["HorizontalPodAutoscaler"]["spec"]["minReplicas"]
    assert least == (3 if overlay == "production" else 1)


@in_each
def test_every_selector_selects_the_pods(overlay: str) -> None:
    found = resources(overlay)
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() and selector for selector in selectors)
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["kind"] == "Deployment"
