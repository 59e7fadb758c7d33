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

from pipeline.bench.gpu import __main__ as gpu
from pipeline.bench.gpu import ddp as ddp_part
from pipeline.bench.gpu import parity

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
from pipeline.bench.gpu import __main__ as gpu
from pipeline.bench.gpu.parity import CASES
from pipeline.bench.gpu.parts import PARTS

torch.set_num_threads(1)
cases = [replace(case, side=16, batch=2, model=replace(case.model, depth=depth)) for case, depth in zip(CASES, (8, 18))]
small = {
    "parity": {"cases": cases, "images": 200},
    "train": {"depth": 8, "images": 200, "batch_size": 20, "pairs": 1, "seconds": 0.1},
    "throughput": {"depth": 18, "side": 32, "classes": 4, "images": 16, "batch_size": 2, "pairs": 1, "seconds": 0.1},
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
    assert done.stderr == f"gpu-check needs a CUDA device, and torch {torch.__version__} finds none here\n"
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


def test_throughput_is_in_images(process: tuple[Path, Any]) -> None:
    values = result(process, "throughput")["values"]
    assert values["images_per_s"] == values["rate"]["ours"] * 2
    assert values["share_of_published"] == values["images_per_s"] / 2470


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


def test_a_part_that_fails_is_reported_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    parts = {"one": fails, "two": lambda *_: ({"value": float("nan")}, True)}
    for name, part in parts.items():
        monkeypatch.setitem(gpu.PARTS, name, part)
    assert gpu.main(["--part", "one", "--part", "two", "--out", str(tmp_path)]) == 1
    one, two = (json.loads((tmp_path / f"gpu-{name}.json").read_text()) for name in parts)
    assert (one["ok"], one["values"]) == (False, {"error": "RuntimeError: out of memory"})
    assert (two["ok"], two["values"], two["device"]) == (True, {"value": "nan"}, "a GPU")
    assert gpu.main(["--part", "two", "--out", str(tmp_path)]) == 0


def test_parts_are_listed_without_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == ["parity", "train", "throughput", "ddp"]
