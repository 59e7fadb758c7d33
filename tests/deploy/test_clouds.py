"""The files of Ray's cluster launcher, by Ray's own schema and checks."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from imports import ROOT

CLOUDS = ROOT / "deploy" / "clouds"
FILES = ("aws.yaml", "gcp.yaml")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

every_cloud = pytest.mark.parametrize("name", FILES)


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLOUDS / name).read_text())


def checked(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with Ray's defaults, as `ray up` checks it before it speaks to the cloud."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config({"cluster_synced_files": [], **prepared})
    return prepared


@every_cloud
def test_ray_takes_it(name: str) -> None:
    prepared = checked(read(name))
    assert prepared["available_node_types"].keys() == {"head", "worker"}


@every_cloud
def test_ray_refuses_a_key_that_it_does_not_know_and_too_few_workers(name: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute'"):
        checked({**read(name), "idle_timeout_minute": 5})
    with pytest.raises(ValueError, match="max_workers"):
        checked({**read(name), "max_workers": 0})


@every_cloud
def test_workers_are_spot_machines_and_the_head_is_none(name: str) -> None:
    head, worker = (read(name)["available_node_types"][kind]["node_config"] for kind in ("head", "worker"))
    spot = re.compile("spot", re.IGNORECASE)
    assert spot.search(yaml.safe_dump(worker)) and not spot.search(yaml.safe_dump(head))
    assert read(name)["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert read(name)["available_node_types"]["worker"]["min_workers"] >= 1


@every_cloud
def test_no_machine_has_a_public_address_and_no_port_is_open_to_all(name: str) -> None:
    config = read(name)
    assert config["provider"]["use_internal_ips"]
    assert "0.0.0.0" not in (CLOUDS / name).read_text()
    for kind in config["available_node_types"].values():
        node = kind["node_config"]
        if name == "aws.yaml":  # otherwise the launcher makes a group that opens SSH to all
            assert node["SecurityGroupIds"] and node["SubnetIds"]
            assert node["MetadataOptions"]["HttpTokens"] == "required"
        else:  # otherwise the launcher adds a public address
            assert node["networkInterfaces"] and not any("accessConfigs" in card for card in node["networkInterfaces"])


def test_the_launcher_makes_neither_group_nor_role_on_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.autoscaler._private.aws import config as aws

    def asked(*_: Any) -> None:
        raise AssertionError("the launcher asked AWS for a group or a role of its own")

    for question in ("_upsert_security_groups", "_get_instance_profile", "_create_security_group"):
        assert hasattr(aws, question)
        monkeypatch.setattr(aws, question, asked)
    config = {**checked(read("aws.yaml")), "head_node": {}}
    head = aws._configure_security_group(aws._configure_iam_role(config))["available_node_types"]["head"]["node_config"]
    assert head["SecurityGroupIds"] == ["MINE-sg"] and head["IamInstanceProfile"] == {"Name": "MINE-profile"}
    del config["available_node_types"]["head"]["node_config"]["SecurityGroupIds"]
    with pytest.raises(AssertionError, match="the launcher asked AWS"):
        aws._configure_security_group(config)


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_aws_knows_every_field_of_a_machine(kind: str) -> None:
    import botocore.session
    from botocore.validate import ParamValidator

    node = read("aws.yaml")["available_node_types"][kind]["node_config"]
    del node["SubnetIds"]  # of these the launcher chooses one
    call = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances")
    report = ParamValidator().validate({**node, "MinCount": 1, "MaxCount": 1}, call.input_shape)
    assert not report.has_errors(), report.generate_report()
    node["MetadataOptions"]["HttpToken"] = "required"
    assert ParamValidator().validate(node, call.input_shape).has_errors()


@every_cloud
def test_every_node_starts_ray_as_compose_does_with_the_token_and_the_shared_folder(name: str) -> None:
    config = read(name)
    _, head = config["head_start_ray_commands"]
    _, worker = config["worker_start_ray_commands"]
    for option in ("--head", "--port", "--num-cpus", "--object-store-memory"):
        (same,) = (part for part in COMPOSE["ray-head"]["command"] if part.split("=")[0] == option)
        assert same in head.split()
    memory = next(part for part in COMPOSE["ray-worker"]["command"] if part.startswith("--object-store-memory"))
    assert memory in worker.split() and "--address=$RAY_HEAD_IP:6379" in worker.split()
    for command in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"]):
        assert command.startswith(". resnet/deploy/clouds/environment.sh && ")
    assert "~/.ray/auth_token" in config["file_mounts"]
    script = '. "$0" 2>/dev/null; echo "$RAY_AUTH_MODE $PIPELINE_RUNS"'
    done = subprocess.run(
        ["bash", "-c", script, CLOUDS / "environment.sh"],
        check=True,
        capture_output=True,
        text=True,
        env={"HOME": "/none"},
    )
    assert done.stdout.split() == [COMPOSE["ray-head"]["environment"]["RAY_AUTH_MODE"], "/shared/runs"]


@every_cloud
def test_what_it_sends_is_there_and_what_is_left_to_fill_in_is_said(name: str) -> None:
    sent = read(name)["file_mounts"]
    assert all(ROOT.joinpath(path).is_file() for path in sent.values() if path.startswith("deploy/"))
    page = (CLOUDS / "README.md").read_text()
    assert f"--output {sent['~/resnet.tar']} " in page and "MINE-" in page
    (setup,) = read(name)["setup_commands"]
    script, export, _ = shlex.split(setup)
    assert script in sent and "MINE-" in export


def test_a_node_unpacks_the_committed_code_and_links_it_to_the_shared_folder(tmp_path: Path) -> None:
    """The script of a node with everything that needs root, packages or a network replaced."""
    home, commands = tmp_path / "home", tmp_path / "commands"
    for folder in (home, commands):
        folder.mkdir()
    subprocess.run(["git", "archive", "--output", home / "resnet.tar", "HEAD"], check=True, cwd=ROOT)
    for command, body in {
        "sudo": 'echo "$@" >>"$HOME/root"',
        "mountpoint": "exit 1",
        "make": 'echo "$@" >"$HOME/made"',
    }.items():
        path = commands / command
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    environment = {"PATH": f"{commands}:/usr/bin:/bin", "HOME": str(home), "USER": "ubuntu"}
    for _ in range(2):  # a node that is set up again stays as it is
        subprocess.run([CLOUDS / "node.sh", "server:/export", "nfsvers=4.1"], check=True, env=environment)
    assert "mount -t nfs4 -o nfsvers=4.1 server:/export /shared" in (home / "root").read_text().splitlines()
    assert (home / "resnet" / "data").readlink() == Path("/shared/data")
    assert (home / "resnet" / "pipeline" / "data" / "store.py").is_file()
    assert (home / "made").read_text() == f"-C {home}/resnet .venv/.installed\n"
