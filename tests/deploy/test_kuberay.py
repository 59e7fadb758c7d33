"""What the manifests for Kubernetes say, as kustomize builds them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from imports import ROOT
from manifests import KUBERAY, Manifest, built, check_kubernetes, containers, only, operators_schema, templates

BASE, SPOT = KUBERAY / "base", KUBERAY / "overlays" / "gpu-spot"
OVERLAYS = sorted(path.parent for path in KUBERAY.glob("overlays/*/kustomization.yaml"))
FOLDERS = [*OVERLAYS, KUBERAY / "sweep", KUBERAY / "data"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
# A node as each provider labels its spot nodes.
SPOT_NODES: list[dict[str, str]] = [
    {"eks.amazonaws.com/capacityType": "SPOT"},
    {"karpenter.sh/capacity-type": "spot"},
    {"cloud.google.com/gke-spot": "true"},
    {"kubernetes.azure.com/scalesetpriority": "spot"},
]

every_folder = pytest.mark.parametrize("folder", [BASE, *FOLDERS], ids=lambda path: path.name)


def cluster(folder: Path) -> Manifest:
    return only("RayCluster", built(folder))["spec"]


def environment(container: Manifest) -> dict[str, Any]:
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}


def option(command: list[str], name: str) -> str:
    (value,) = (part.partition("=")[2] for part in command if part.startswith(f"{name}="))
    return value


@every_folder
def test_kubernetes_knows_every_field(folder: Path) -> None:
    manifests = built(folder)
    for manifest in manifests:
        if manifest["apiVersion"] != "ray.io/v1":
            check_kubernetes(manifest)
    for title, template in templates(manifests):
        check_kubernetes({"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": title}})


@every_folder
def test_the_operator_knows_every_field(folder: Path) -> None:
    rays = [manifest for manifest in built(folder) if manifest["apiVersion"] == "ray.io/v1"]
    assert rays or folder.name == "data"
    for manifest in rays:
        errors = [
            f"{list(e.absolute_path)}: {e.message}" for e in operators_schema(manifest["kind"]).iter_errors(manifest)
        ]
        assert not errors


def test_kubernetes_schema_notices_a_misspelt_field() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": cluster(BASE)["headGroupSpec"]["template"]["spec"]}
    check_kubernetes(pod)
    pod["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        check_kubernetes(pod)


def test_the_operators_schema_notices_a_misspelt_field() -> None:
    manifest = only("RayCluster", built(BASE))
    manifest["spec"]["headGroupSpec"]["rayStartParam"] = {}
    (error,) = operators_schema("RayCluster").iter_errors(manifest)
    assert error.validator == "additionalProperties" and "rayStartParam" in error.message


@every_folder
def test_no_pod_has_more_rights_than_a_container_of_compose(folder: Path) -> None:
    manifests = built(folder)
    autoscaling = [m for m in manifests if m["kind"] == "RayCluster" and m["spec"]["enableInTreeAutoscaling"]]
    ids = [int(value) for value in re.findall(r"^ARG PIPELINE_[UG]ID=(\d+)$", DOCKERFILE, re.MULTILINE)]
    confined = [container for _, template in templates(manifests) for container in containers(template)]
    confined += [manifest["spec"]["autoscalerOptions"] for manifest in manifests if manifest["kind"] == "RayCluster"]
    for container in confined:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] and rights["capabilities"] == {"drop": ["ALL"]}
        assert rights["allowPrivilegeEscalation"] is False
    for title, template in templates(manifests):
        user = template["spec"]["securityContext"]
        assert [user["runAsUser"], user["runAsGroup"]] == ids and user["runAsNonRoot"]
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}
        # The autoscaler changes the RayCluster; nothing else speaks to Kubernetes.
        assert template["spec"]["automountServiceAccountToken"] == (title == "head" and bool(autoscaling))


@every_folder
def test_every_image_is_the_one_of_compose(folder: Path) -> None:
    image = COMPOSE["ray-head"]["image"]
    site = yaml.safe_load((KUBERAY / "site" / "kustomization.yaml").read_text())["images"][0]
    assert site["name"] == image.partition(":")[0]
    expected = image if folder == BASE else image.replace(site["name"], site["newName"])
    for _, template in templates(built(folder)):
        assert {container["image"] for container in containers(template)} == {expected}


@every_folder
def test_a_pods_cpus_are_rays_cpus(folder: Path) -> None:
    for title, template in templates(built(folder)):
        for container in containers(template):
            assert container["resources"]["requests"] == container["resources"]["limits"], title
    if folder in (BASE, *OVERLAYS):
        spec = cluster(folder)
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == option(
            COMPOSE["ray-head"]["command"], "--num-cpus"
        )
        for group in spec["workerGroupSpecs"]:  # the operator tells Ray the limit, which has to be whole
            assert int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]) > 0
            assert not {"num-cpus", "num-gpus", "memory"} & group["rayStartParams"].keys()


@pytest.mark.parametrize("folder", [BASE, *OVERLAYS], ids=lambda path: path.name)
def test_the_nodes_are_those_of_compose(folder: Path) -> None:
    spec, head = cluster(folder), COMPOSE["ray-head"]
    lock = (ROOT / "requirements.txt").read_text()
    assert f"\nray=={spec['rayVersion']} " in lock
    assert spec["authOptions"]["mode"] == head["environment"]["RAY_AUTH_MODE"]
    for part in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert part["rayStartParams"]["object-store-memory"] == option(head["command"], "--object-store-memory")
        (container,) = part["template"]["spec"]["containers"]
        values = environment(container)
        assert values["PIPELINE_RUNS"] == head["environment"]["PIPELINE_RUNS"]
        assert values["MLFLOW_TRACKING_URI"] == {"configMapKeyRef": {"name": "pipeline", "key": "MLFLOW_TRACKING_URI"}}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert f"http://127.0.0.1:{asked['port']}{asked['path']}" in head["healthcheck"]["test"][-1]
    settings = only("ConfigMap", [m for m in built(BASE) if m["metadata"]["name"] == "pipeline"])
    assert settings["data"] == {"MLFLOW_TRACKING_URI": head["environment"]["MLFLOW_TRACKING_URI"]}


@every_folder
def test_what_a_manifest_names_is_there(folder: Path) -> None:
    manifests, page = built(folder), (KUBERAY / "README.md").read_text()
    # The overlay brings what the jobs use.
    names = {(m["kind"], m["metadata"]["name"]) for m in manifests + built(SPOT)}
    text = yaml.safe_dump(manifests)
    for claim in re.findall(r"claimName: (\S+)", text):
        assert ("PersistentVolumeClaim", claim) in names
    references: list[Any] = [yaml.safe_load(text)]
    while references:
        node = references.pop()
        if isinstance(node, list):
            references += node
        elif isinstance(node, dict):
            references += node.values()
            for key, value in node.items():
                if key in ("configMapKeyRef", "configMap"):
                    assert ("ConfigMap", value["name"]) in names
                elif key in ("secretKeyRef", "secretRef"):
                    assert re.search(rf"kubectl create secret \w+ {value['name']} ", page)
                elif key == "secretName":
                    assert re.search(rf"kubectl create secret \w+ {value} ", page)
                elif key == "clusterSelector":
                    assert ("RayCluster", value["ray.io/cluster"]) in names
    for _, template in templates(manifests):
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        assert {mount["name"] for container in containers(template) for mount in container["volumeMounts"]} == volumes
    for manifest in manifests:
        if manifest["kind"] == "RayCluster":
            head = manifest["spec"]["headGroupSpec"]["template"]["spec"]["volumes"]
            mounts = manifest["spec"]["autoscalerOptions"]["volumeMounts"]
            assert {mount["name"] for mount in mounts} <= {volume["name"] for volume in head}


def admits(template: Manifest, labels: dict[str, str]) -> bool:
    """Whether a pod's required affinity lets it run on a node with these labels."""
    terms = template["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    holds = {
        "In": lambda e: labels.get(e["key"]) in e["values"],
        "NotIn": lambda e: labels.get(e["key"]) not in e["values"],
    }
    return any(
        all(holds[each["operator"]](each) for each in term["matchExpressions"]) for term in terms["nodeSelectorTerms"]
    )


@pytest.mark.parametrize("labels", SPOT_NODES, ids=lambda labels: next(iter(labels)))
def test_workers_run_on_spot_nodes_and_the_head_never_does(labels: dict[str, str]) -> None:
    for folder in [BASE, *OVERLAYS]:
        head = cluster(folder)["headGroupSpec"]["template"]
        assert not admits(head, labels) and admits(head, {})
    workers = cluster(SPOT)["workerGroupSpecs"][0]["template"]
    assert admits(workers, labels) and not admits(workers, {})


def test_workers_tolerate_the_taints_of_gpu_and_spot_nodes() -> None:
    tolerated = cluster(SPOT)["workerGroupSpecs"][0]["template"]["spec"]["tolerations"]
    assert {each["key"] for each in tolerated} == {
        "nvidia.com/gpu",
        "cloud.google.com/gke-spot",
        "kubernetes.azure.com/scalesetpriority",
    }
    assert "tolerations" not in cluster(SPOT)["headGroupSpec"]["template"]["spec"]


def test_a_worker_stays_where_the_cluster_scales() -> None:
    (group,) = cluster(SPOT)["workerGroupSpecs"]
    assert cluster(SPOT)["enableInTreeAutoscaling"] and 1 <= group["minReplicas"] < group["maxReplicas"]
    (group,) = cluster(BASE)["workerGroupSpecs"]
    assert not cluster(BASE)["enableInTreeAutoscaling"]
    assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]


def test_secrets_stand_in_no_manifest() -> None:
    for folder in [BASE, *FOLDERS]:
        for manifest in built(folder):
            assert manifest["kind"] != "Secret"
    password = cluster(SPOT)["gcsFaultToleranceOptions"]["redisPassword"]
    assert password == {"valueFrom": {"secretKeyRef": {"name": "ray-redis", "key": "password"}}}


def test_all_of_rays_processes_speak_tls_and_the_authoritys_key_is_seen_by_those_alone_that_make_certificates() -> None:
    spec = cluster(SPOT)
    values = environment(spec["headGroupSpec"]["template"]["spec"]["containers"][0])
    tls = {name: value for name, value in values.items() if "TLS" in name}
    assert tls.keys() == {"RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"}
    processes = [spec["autoscalerOptions"], spec["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]]
    assert all(tls.items() <= environment(process).items() for process in processes)
    for _, template in templates(built(SPOT)):
        for container in containers(template):
            sees = "ray-authority" in {mount["name"] for mount in container["volumeMounts"]}
            assert sees == (container["name"] == "certificate")


@pytest.fixture
def certified(tmp_path: Path) -> Path:
    """An overlay with cert-manager's certificates in place of our own."""
    up = "../" * len(tmp_path.resolve().parts)  # kustomize takes no absolute paths
    folders = {"resources": BASE, "components": KUBERAY / "components" / "tls-cert-manager"}
    overlay = {key: [f"{up}{folder.relative_to('/')}"] for key, folder in folders.items()}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return tmp_path


def test_the_operators_own_tls_is_not_mixed_with_ours(certified: Path) -> None:
    spec = cluster(certified)
    assert spec["tlsOptions"] == {"enabled": True}
    assert not [
        name for name in environment(spec["headGroupSpec"]["template"]["spec"]["containers"][0]) if "TLS" in name
    ]
    for overlay in OVERLAYS:
        assert "tlsOptions" not in cluster(overlay)


def test_the_operator_knows_its_own_tls(certified: Path) -> None:
    assert not list(operators_schema("RayCluster").iter_errors(only("RayCluster", built(certified))))


def test_nobody_but_the_cluster_the_submitter_and_the_operator_reaches_rays_ports() -> None:
    policy = only("NetworkPolicy", built(BASE))["spec"]
    own = {"podSelector": {"matchLabels": {"ray.io/cluster": only("RayCluster", built(BASE))["metadata"]["name"]}}}
    assert policy["podSelector"] == own["podSelector"] and policy["policyTypes"] == ["Ingress"]
    inner, outer = policy["ingress"]
    assert inner == {"from": [own]}
    assert outer["ports"] == [{"port": 8265}]
    labels = dict(templates(built(KUBERAY / "sweep")))["submitter"]["metadata"]["labels"]
    assert outer["from"][0] == {"podSelector": {"matchLabels": labels}}


def test_the_page_and_the_makefile_name_one_version_of_the_operator() -> None:
    page, makefile = (KUBERAY / "README.md").read_text(), (ROOT / "Makefile").read_text()
    (version,) = set(re.findall(r"--version (\S+?)`|version (\d+\.\d+\.\d+):", page)[0]) - {""}
    assert set(re.findall(r"\b\d+\.\d+\.\d+\b", page)) == {version}
    assert f"kuberay/v{version}/" in makefile
