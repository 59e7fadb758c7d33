"""What a sweep asks of a cluster."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import Command
from runs import Workspaces, composed

from pipeline.config import ClusterConfig, Config
from pipeline.errors import PipelineError
from pipeline.tuning import cluster
from pipeline.tuning.cluster import _dashboard, check_precision, on_gpus, side_by_side
from pipeline.tuning.room import fit, join_cluster
from pipeline.tuning.sweep import Sweep
from pipeline.tuning.trial import trial_resources

CPUS, GPUS = [{"CPU": 16.0}], [{"CPU": 16.0, "GPU": 8.0}]


def test_a_trial_asks_for_a_gpu_where_there_are_any_so_that_they_do_not_share_the_first(workspace: Workspaces) -> None:
    root = workspace()
    assert trial_resources(composed(root), GPUS) == {"CPU": 1, "GPU": 1.0}
    assert trial_resources(composed(root), CPUS)["GPU"] == 0
    assert trial_resources(composed(root, "trainer.accelerator=cpu"), GPUS)["GPU"] == 0
    assert trial_resources(composed(root, "cluster.gpus_per_trial=0.5"), GPUS)["GPU"] == 0.5
    with pytest.raises(
        ValueError,
        match=r"0\.5 GPU on one machine.* has 0, .*\(override: trainer\.accelerator=cpu cluster\.gpus_per_trial=0\)",
    ):
        trial_resources(composed(root, "trainer.accelerator=gpu", "cluster.gpus_per_trial=0.5"), CPUS)


@pytest.mark.parametrize(("share", "trials"), [(0.1, 10), (0.2, 5), (0.3, 3), (1 / 3, 3), (1.0, 1)])
def test_shares_of_a_gpu_fill_it(share: float, trials: int) -> None:
    assert fit({"CPU": 1, "GPU": share}, [{"CPU": 16.0, "GPU": 1.0}]) == trials
    assert fit({"CPU": 1, "GPU": share}, [{"CPU": 2.0, "GPU": 1.0}, {"CPU": 1.0}]) == min(trials, 2)


@pytest.mark.parametrize(
    ("overrides", "nodes", "sentence"),
    [
        (
            ("cluster.cpus_per_trial=3",),
            [{"CPU": 2.0}, {"CPU": 1.0}],
            "3 CPU on one machine.*2 has 2, all together have 3",
        ),
        (
            ("cluster.cpus_per_trial=4",),
            [{"CPU": 4.0}, {"CPU": 2.0, "GPU": 1.0}],
            "4 CPU and 1 GPU on one machine, and no",
        ),
    ],
)
def test_a_trial_that_no_single_machine_can_hold_is_refused(
    overrides: tuple[str, ...], nodes: list[dict[str, float]], sentence: str, workspace: Workspaces
) -> None:
    with pytest.raises(ValueError, match=sentence):
        trial_resources(composed(workspace(), *overrides), nodes)


def test_ranks_take_the_devices_and_the_trial_that_waits_for_them_nothing(workspace: Workspaces) -> None:
    config = composed(workspace(), "trainer.devices=4")
    assert not {"CPU", "GPU"} & trial_resources(config, GPUS).keys()
    assert on_gpus(config, GPUS)
    assert (side_by_side(config, CPUS), side_by_side(config, GPUS)) == (4, 2)
    with pytest.raises(ValueError, match=r"4 ranks need 4 CPUs, the Ray cluster has 2; lower trainer\.devices"):
        side_by_side(config, [{"CPU": 1.0}, {"CPU": 1.5}])


def test_tf32_needs_gpus(workspace: Workspaces) -> None:
    config = composed(workspace(), "recipe.precision=tf32")
    check_precision(config, GPUS)
    with pytest.raises(ValueError, match=r"recipe\.precision=tf32 .* use recipe\.precision=fp32"):
        check_precision(config, CPUS)


def sweep(config: Config, num_train: int = 1150, content_hash: str = "hash") -> Sweep:
    return Sweep(config=config, store=Path(), content_hash=content_hash, num_train=num_train, num_val=150)


def test_the_schedulers_horizon_is_that_of_the_longest_trial(workspace: Workspaces) -> None:
    def epochs(*overrides: str, num_train: int = 1150) -> int:
        return sweep(composed(root, "recipe.max_steps=170", "recipe.batch_size=64", *overrides), num_train).epochs

    root = workspace()
    assert epochs() == 10
    assert epochs("sweep.space={recipe.max_steps:[17,340]}") == 20
    assert epochs("sweep.space={recipe.batch_size:[64,128]}") == 22
    assert epochs("sweep.space={data.num_train:[0,640]}") == 17
    with pytest.raises(ValueError, match=r"recipe\.batch_size=64 is larger than the 50 training images"):
        epochs(num_train=50)
    with pytest.raises(ValueError, match=r"recipe\.batch_size=64 is larger than the 40 training images"):
        epochs("sweep.space={data.num_train:[40,640]}")


def test_what_decides_a_sweep_makes_another(workspace: Workspaces) -> None:
    root = workspace()
    changes = ["trainer.val_every_epochs=2", "recipe.lr=0.3", "sweep.grace_epochs=9", "data.num_train=500"]
    changes += ["start.weights=/a/net.pth", "start.head=kept", "model.depth=20", "seed=1"]
    changes += ["trainer.sync_batchnorm=false trainer.devices=2"]
    names = {sweep(composed(root, *change.split())).name for change in ("", *changes)}
    names.add(sweep(composed(root), content_hash="another").name)
    assert len(names) == len(changes) + 2
    for change in ("cluster.address=elsewhere:6379", "cluster.max_concurrent=1", "sweep.budget.trials=3"):
        assert sweep(composed(root, change)).name in names


def test_several_machines_need_an_mlflow_server_that_all_reach(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.tuning.ranks import fit_on_ray

    def machines(*addresses: str) -> None:
        nodes = [{"NodeManagerAddress": at, "Alive": True, "Resources": {"CPU": 4.0}} for at in addresses]
        lost = {"NodeManagerAddress": "10.0.0.9", "Alive": False, "Resources": {}}
        monkeypatch.setattr("ray.nodes", lambda: [*nodes, lost])

    root = workspace()
    local, served = composed(root), composed(root, "tracking.uri=http://10.0.0.3:5000")
    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "0")
    for caller in ("ranks", "room"):
        monkeypatch.setattr(f"pipeline.tuning.{caller}.join", lambda *_, **__: True)
    machines("10.0.0.1", "10.0.0.2")
    for begin in (lambda: join_cluster(sweep(local)), lambda: fit_on_ray(local, root / "data/store/digits", {})):
        with pytest.raises(ValueError, match=r"2 machines .* in sqlite:.*: tracking=server with MLFLOW_TRACKING_URI"):
            begin()
    assert join_cluster(sweep(served)).slots == 8
    machines("10.0.0.1", "10.0.0.1")  # two of Ray's nodes on one machine
    assert join_cluster(sweep(local)).slots == 8


def test_a_place_with_too_long_a_name_for_sockets_is_a_sentence_before_ray_starts(
    workspace: Workspaces, tmp_path: Path
) -> None:
    place = tmp_path / ("long" * 20)
    place.mkdir()
    environment = {"RAY_TMPDIR": str(place)}
    command = Command(workspace(), "sweep", "model.depth=8", "sweep.space={model.depth:[8]}", environment=environment)
    assert command.wait() == 2 and "Traceback" not in command.output
    assert (
        f"{place}/ray-{os.getuid()}, where Ray keeps its sockets" in command.output
        and "RAY_TMPDIR=/tmp" in command.output
    )


def test_a_home_where_ray_cannot_write_its_token_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        (Path.home() / ".ray").mkdir(parents=True, exist_ok=True)  # as Ray does

    errors = SimpleNamespace(AuthenticationError=type("AuthenticationError", (Exception,), {}))
    ray = SimpleNamespace(is_initialized=lambda: False, init=init, exceptions=errors)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    for name, value in (("_pass_no_secrets", None), ("_keep_traces", None), ("_private_folder", tmp_path)):
        monkeypatch.setattr(cluster, name, lambda value=value: value)
    with pytest.raises(PipelineError, match=r"file/\.ray/auth_token \(.* in HOME, or in RAY_AUTH_TOKEN_PATH a file"):
        cluster.join(SimpleNamespace(cluster=ClusterConfig()))


def test_rays_pages_and_account_are_printed_with_what_they_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    pages, account = _dashboard("127.0.0.1:8265", "10.0.0.1:6379").splitlines()
    assert pages == "Ray's dashboard: http://127.0.0.1:8265 (its token: ray get-auth-token)"
    assert account.endswith("RAY_AUTH_MODE=token ray status --address 10.0.0.1:6379")
    with pytest.raises(ValueError, match=r"override: cluster\.dashboard=false"):
        _dashboard(None, "10.0.0.1:6379")
