"""The GPU checks on the CPU, in a process that has no more than they may need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import ended, until

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import ddp as ddp_part
from benchmarks.gpu import parity, profile, replay, resnet20
from benchmarks.gpu.variants import by_variant
from pipeline.fast.graphed import WARM_UP
from pipeline.learn.training.classifier import Classifier

ABSENT = (
    "ray",
    "mlflow",
    "dvc",
    "hydra",
    "omegaconf",
    "pydantic",
    "psutil",
    "rich",
    "pyarrow",
    "matplotlib",
    "sklearn",
)

# Runs as if `ABSENT` were not installed: every part on the CPU at its smallest, then the command as it is.
SCRIPT = """
import sys

ABSENT = set(sys.argv[1].split())

class Without:
    # A finder that finds neither the modules nor the distributions of ABSENT.
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, path, target)

    def find_distributions(self, context):
        found = getattr(self.finder, "find_distributions", lambda _: ())(context)
        return (one for one in found if one.metadata["Name"].lower() not in ABSENT)

    def invalidate_caches(self):
        getattr(self.finder, "invalidate_caches", lambda: None)()

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]

from dataclasses import replace
from functools import partial
from pathlib import Path
import torch
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.parity import CASES
from benchmarks.gpu.parts import PARTS

torch.set_num_threads(1)
cases = [replace(case, side=16, batch=2, model=replace(case.model, depth=depth)) for case, depth in zip(CASES, (8, 18))]
small = {
    "parity": {"cases": cases, "images": 200},
    "replay": {"depth": 8, "images": 200, "batch_size": 10},
    "train": {"depth": 8, "images": 200, "batch_size": 20, "pairs": 1, "seconds": 0.1},
    "loop": {"depth": 8, "images": 200, "batch_size": 20, "steps": 10, "pairs": 1, "compiled": (False,)},
    "resnet20": {"depth": 8, "images": 100, "batch_size": 10, "steps": 24, "sample": 20, "compiled": (False,)},
    "resnet50": {"depth": 18, "side": 32, "images": 16, "batch_size": 2, "pairs": 1, "seconds": 0.1, "compiled": (False,)},
    "profile": {
        "depths": (8, 18), "sides": (8, 32), "images": (200, 16), "batch_sizes": (4, 2), "steps": 4, "compiled": (False,)
    },
    "ddp": {},
}
for name, arguments in small.items():
    gpu.check(name, partial(PARTS[name], **arguments), torch.device("cpu"), Path("out"))
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & ABSENT, loaded & ABSENT
sys.exit(gpu.main(["--out", "none"]))
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("gpu")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("OUT", None)
    command = [sys.executable, "-c", SCRIPT, " ".join(ABSENT)]
    return folder, subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def result(process: tuple[Path, Any], part: str) -> dict[str, Any]:
    folder, done = process
    path = folder / "out" / f"gpu-{part}.json"
    assert path.exists(), done.stderr
    found = json.loads(path.read_text())
    assert set(found) == {"part", "device", "torch", "values", "seconds", "ok"}
    assert (found["part"], found["device"], found["torch"]) == (part, "cpu", torch.__version__)
    assert found["ok"] is not False, found["values"]
    return found


def test_without_cuda_the_command_says_so_and_ends_with_2(process: tuple[Path, Any]) -> None:
    folder, done = process
    assert done.returncode == 2, done.stderr
    assert (
        done.stderr.splitlines()[-1] == f"gpu-check needs a CUDA device, and torch {torch.__version__} finds none here"
    )
    assert not (folder / "none").exists()


def test_parity_of_the_cpu_with_itself_is_exact(process: tuple[Path, Any]) -> None:
    values = result(process, "parity")["values"]
    assert set(values["differences"]) == {"resnet8", "resnet18B"}
    for case in values["differences"].values():
        assert {precision: found["gradient"] for precision, found in case.items()} == {"float32": 0, "float64": 0}
    assert values["augmentation_equal"] == {"train": True, "test": True}


def test_training_is_timed_and_a_run_cut_off_ends_where_it_should(process: tuple[Path, Any]) -> None:
    values = result(process, "train")["values"]
    assert values["resume"] == {"interrupted_at": 9, "steps": 14, "steps_undisturbed": 14, "same_entries": True}
    assert values["rate"]["ratio"] > 0


def test_resnet50_is_timed_in_images(process: tuple[Path, Any]) -> None:
    values = result(process, "resnet50")["values"]["plain"]
    assert values["images_per_s"] == values["rate"]["ours"] * 2
    assert values["share_of_published"] == values["images_per_s"] / 2470


def test_the_loop_is_timed_with_a_net_and_with_next_to_none(process: tuple[Path, Any]) -> None:
    values = result(process, "loop")["values"]
    rate = values["rate"]["plain"]
    assert (rate["bar"], rate["unit"]) == (0.9, "steps/s") and rate["ratio"] > 0
    assert set(values["step_us_by_steps_per_call"]) == {"1", "25"}
    assert all(row["ours"] > 0 < row["reference"] for row in values["step_us_by_steps_per_call"].values())


def test_resnet20s_steps_are_extrapolated_and_made(process: tuple[Path, Any]) -> None:
    values = result(process, "resnet20")["values"]
    assert values["extrapolated_s"] == 24 / values["plain"]["steps_per_s"]
    assert values["seconds"] == values["result"]["seconds"] > 0
    assert values["result"]["steps"] == 24 and "test_err1" not in values


def test_resnet20s_error_is_that_of_the_test_images_of_a_store(digits: Path, tmp_path: Path) -> None:
    values, ok = resnet20.resnet20(
        torch.device("cpu"),
        tmp_path,
        data=digits / "store" / "digits",
        depth=8,
        batch_size=64,
        steps=60,
        sample=10,
        compiled=(False,),
    )
    assert ok is None and values["result"]["steps"] == 60
    assert 0 < values["test_err1"] < 0.9


def test_a_variant_that_fails_is_reported_and_the_other_counts() -> None:
    def measured(compiled: bool) -> dict[str, int]:
        if compiled:
            raise RuntimeError("no triton")
        return {"rate": 1}

    found, ok = by_variant((False, True), measured)
    assert not ok and found == {"plain": {"rate": 1}, "compiled": found["compiled"]}
    assert found["compiled"]["error"] == "RuntimeError: no triton" and "in measured" in found["compiled"]["traceback"]


def test_time_in_which_several_kernels_run_is_busy_once() -> None:
    found = profile._summary([("b", 10.0, 14.0), ("a", 0.0, 4.0), ("a", 3.0, 5.0), ("c", 11.0, 12.0)])
    assert found["span_us"] == 14 and found["idle"] == pytest.approx(5 / 14)
    assert found["kernels"] == [("a", 0.5455, 2), ("b", 0.3636, 1), ("c", 0.0909, 1)]
    assert profile._summary([]) == {"span_us": 0, "idle": None, "launches": 0, "kernels": []}


def test_a_profile_names_what_took_longest(process: tuple[Path, Any]) -> None:
    values = result(process, "profile")["values"]
    assert list(values) == ["ResNet-8", "ResNet-18B"]
    for found in (one["plain"] for one in values.values()):
        shares = [share for _, share, _ in found["kernels"]]
        assert found["steps"] == 4 and 0 < len(shares) <= 15
        assert shares == sorted(shares, reverse=True) and 0 <= found["idle"] < 1
        assert any("convolution" in name for name, *_ in found["kernels"])


def test_one_device_is_too_few_for_ddp(process: tuple[Path, Any]) -> None:
    found = result(process, "ddp")
    assert found["ok"] is None
    assert "two GPUs" in found["values"]["reason"]


@pytest.mark.slow
def test_two_ranks_learn_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddp_part, "PATIENCE_S", 600.0)
    values, ok = ddp_part.ddp(torch.device("cpu"), tmp_path, ranks=2, depth=8, images=200, batch_size=4, steps=8)
    assert ok, values
    assert (values["ranks"], values["global_batch"], values["steps"]) == (2, 8, 8)


def test_parity_sees_a_gradient_that_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = parity.Case(parity.CASES[0].model, 8, 4, loss_limit=1e-3, gradient_limit=1e-2)
    right = parity.training_step

    def off_by_two_percent(*given: Any) -> tuple[float, list[torch.Tensor]]:
        loss, gradients = right(*given)
        calls.append(given)
        second = len(calls) % 2 == 0  # the device's; the CPU's is asked for first
        return loss, [gradient * (1.02 if second else 1) for gradient in gradients]

    calls: list[Any] = []
    monkeypatch.setattr(parity, "training_step", off_by_two_percent)
    values, ok = parity.parity(torch.device("cpu"), tmp_path, [case], 200)
    assert not ok, values


def test_a_part_that_fails_is_reported_with_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> Any:
        try:
            raise RuntimeError("out of memory")
        finally:
            raise ValueError("the capture cannot end")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    for name, part in {"one": fails, "two": lambda *_: ({"value": float("nan")}, True)}.items():
        monkeypatch.setitem(gpu.PARTS, name, part)
    assert gpu.main(["--part", "one", "--out", str(tmp_path)]) == 1
    assert gpu.main(["--part", "two", "--out", str(tmp_path)]) == 0
    one, two = (json.loads((tmp_path / f"gpu-{name}.json").read_text()) for name in ("one", "two"))
    assert (one["ok"], one["values"]["error"]) == (False, "ValueError: the capture cannot end")
    assert "RuntimeError: out of memory" in one["values"]["traceback"]
    assert "RuntimeError: out of memory" in capsys.readouterr().out
    assert (two["ok"], two["values"], two["device"]) == (True, {"value": "nan"}, "a GPU")


def test_several_parts_are_processes_of_which_one_that_dies_or_is_late_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """
import os, sys, time
name, out = sys.argv[sys.argv.index("--part") + 1], sys.argv[sys.argv.index("--out") + 1]
assert sys.argv[sys.argv.index("--data") + 1] == "store"
if name == "parity": os.abort()
if name == "replay": time.sleep(600)
open(f"{out}/gpu-{name}.json", "w").write("said")
sys.exit(name == "loop")
"""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(gpu, "COMMAND", [sys.executable, "-c", script])
    monkeypatch.setattr(gpu, "LIMIT_S", 2.0)
    (tmp_path / "gpu-parity.json").write_text("of an earlier check")
    given = ["--data", "store", "--out", str(tmp_path)]
    parts = [word for name in ("parity", "replay", "loop", "train") for word in ("--part", name)]
    assert gpu.main([*parts, *given]) == 1
    dead, late = (json.loads((tmp_path / f"gpu-{name}.json").read_text()) for name in ("parity", "replay"))
    assert (dead["ok"], dead["values"]) == (False, {"error": "ended with exit code -6"})
    assert (late["ok"], late["values"]) == (False, {"error": "took longer than 2 s"})
    assert all((tmp_path / f"gpu-{name}.json").read_text() == "said" for name in ("loop", "train"))
    assert gpu.main(["--part", "train", "--part", "profile", *given]) == 0


def test_a_part_ends_with_the_check_that_started_it(tmp_path: Path) -> None:
    started = tmp_path / "started"
    part = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    script = f"""
import runpy, sys, torch
torch.cuda.is_available = lambda: True
import subprocess
popen = subprocess.Popen
subprocess.Popen = lambda command, **given: popen([sys.executable, "-c", {part!r}], **given)
sys.argv = ["gpu", "--part", "parity", "--part", "train", "--out", {str(tmp_path)!r}]
runpy.run_module("benchmarks.gpu", run_name="__main__", alter_sys=True)
"""
    with subprocess.Popen([sys.executable, "-c", script]) as check:
        pid = int(until(lambda: started.exists() and started.read_text(), "a part"))
        check.terminate()
        assert check.wait(60) == 143
    until(lambda: ended(pid), "the part's end", patience_s=20)


@pytest.mark.parametrize("recipe", replay.RECIPES)
def test_replay_sees_a_rate_that_a_recording_keeps(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, kept = Classifier._set_rate, {}

    def set_rate(self: Classifier, rate: float) -> None:
        if self._steps_per_call > 1:  # the training that a GPU would record
            rate = kept.setdefault(self, rate) if self.global_step >= WARM_UP else rate
        right(self, rate)

    monkeypatch.setattr(replay, "RECIPES", {recipe: replay.RECIPES[recipe]})
    small = {"depth": 8, "images": 400, "batch_size": 20}
    values, ok = replay.replay(torch.device("cpu"), tmp_path / "right", **small)
    assert ok and values["recipes"][recipe]["aside"] == 0
    monkeypatch.setattr(Classifier, "_set_rate", set_rate)
    values, ok = replay.replay(torch.device("cpu"), tmp_path / "wrong", **small)
    assert not ok, values


def test_parts_are_listed_without_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == [
        "parity",
        "replay",
        "train",
        "loop",
        "resnet20",
        "resnet50",
        "profile",
        "ddp",
    ]
