"""The certificate that a pod makes for itself, by openssl."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from manifests import KUBERAY

SCRIPT = KUBERAY / "components" / "tls" / "certificate.sh"


def certificate(authority: Path, out: Path, ip: str) -> Path:
    out.mkdir()
    environment = {**os.environ, "POD_IP": ip, "FQ_RAY_IP": "resnet-head-svc.resnet.svc.cluster.local"}
    subprocess.run([SCRIPT, authority, out], check=True, env=environment, capture_output=True)
    return out


def verifies(folder: Path, *options: str) -> bool:
    command = ["openssl", "verify", "-CAfile", folder / "ca.crt", "-x509_strict", *options, folder / "tls.crt"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_a_pods_certificate_is_for_its_own_address_and_the_heads_name(authority: Path, tmp_path: Path) -> None:
    made = certificate(authority, tmp_path / "tls", "10.244.1.7")
    for purpose in ("sslserver", "sslclient"):  # Ray's processes are both
        assert verifies(made, "-purpose", purpose, "-verify_ip", "10.244.1.7")
    assert verifies(made, "-verify_ip", "127.0.0.1")
    assert verifies(made, "-verify_hostname", "resnet-head-svc.resnet.svc.cluster.local")
    assert not verifies(made, "-verify_ip", "10.244.1.8")
    assert not [path for path in made.iterdir() if path.stat().st_mode & 0o077]


def test_a_pods_certificate_is_no_authority(authority: Path, tmp_path: Path) -> None:
    pod = certificate(authority, tmp_path / "pod", "10.244.1.7")
    other = certificate(pod, tmp_path / "other", "10.244.1.8")
    command = ["openssl", "verify", "-CAfile", authority / "tls.crt", "-untrusted", pod / "tls.crt", other / "tls.crt"]
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0
