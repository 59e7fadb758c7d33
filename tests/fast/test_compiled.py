"""trainer.compile=auto: which trainings are measured, what is kept, what a measurement leaves alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from nets import make_model
from torch import nn
from torch._inductor import config as inductor

from pipeline.atomic import read_json
from pipeline.fast import compiled
from pipeline.fast.compiled import Steps, cache_file, compiles
from pipeline.learn.models import build_model

CPU, SHAPE, LONG = torch.device("cpu"), (4, 3, 8, 8), 10**9


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return build_model(make_model(8), 4).to(memory_format=torch.channels_last)


def measuring(monkeypatch: pytest.MonkeyPatch, *steps: Steps) -> list[Steps]:
    """Measurements still to be made, instead of real ones: compiling takes a minute."""
    left = list(steps)
    monkeypatch.setattr(compiled, "compiler_exists", lambda: True)
    monkeypatch.setattr(compiled, "_measured", lambda *_: left.pop(0))
    return left


@pytest.mark.parametrize("setting", [True, False])
def test_true_and_false_need_no_timing(net: nn.Module, setting: bool) -> None:
    assert compiles(setting, net, SHAPE, "fp32", CPU, LONG) is setting
    assert not cache_file().exists()


@pytest.mark.parametrize(("compiled_s", "expected"), [(0.9, True), (1.1, False)])
def test_the_faster_steps_win_and_the_next_training_need_not_measure(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch, compiled_s: float, expected: bool
) -> None:
    left = measuring(monkeypatch, Steps(1.0, compiled_s))
    assert [compiles("auto", net, SHAPE, "fp32", CPU, LONG) for _ in range(2)] == [expected] * 2
    assert left == []
    assert list(read_json(cache_file()).values()) == [{"plain_s": 1.0, "compiled_s": compiled_s}]


def test_another_batch_net_or_precision_is_measured_apart(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    left = measuring(monkeypatch, *[Steps(2.0, 1.0)] * 4)
    deeper = build_model(make_model(14), 4).to(memory_format=torch.channels_last)
    compiles("auto", net, SHAPE, "fp32", CPU, LONG)
    compiles("auto", net, (8, 3, 8, 8), "fp32", CPU, LONG)
    compiles("auto", deeper, SHAPE, "fp32", CPU, LONG)
    compiles("auto", net, SHAPE, "bf16", CPU, LONG)
    assert left == []
    assert len(read_json(cache_file())) == 4


def test_a_short_training_is_neither_measured_nor_compiled(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    left = measuring(monkeypatch, Steps(1.0, 0.1))
    assert not compiles("auto", net, SHAPE, "fp32", CPU, 50)
    assert len(left) == 1
    assert compiles("auto", net, SHAPE, "fp32", CPU, LONG)  # measured now
    assert not compiles("auto", net, SHAPE, "fp32", CPU, 50)  # known to be faster, and still not worth compiling


def test_a_training_that_goes_on_is_compiled_or_not_as_it_began(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = measuring(monkeypatch, Steps(1.0, 0.1))
    assert not compiles("auto", net, SHAPE, "fp32", CPU, LONG, earlier=False)
    monkeypatch.setattr(compiled, "compile_net", lambda net: None)
    assert compiles("auto", net, SHAPE, "fp32", CPU, 50, earlier=True)
    assert len(left) == 1


def test_measuring_changes_neither_the_net_nor_the_random_numbers(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[nn.Module] = []
    monkeypatch.setattr(compiled, "compiler_exists", lambda: True)
    monkeypatch.setattr(compiled, "compile_net", given.append)  # compiling takes a minute
    before, numbers = {name: value.clone() for name, value in net.state_dict().items()}, torch.random.get_rng_state()
    compiles("auto", net, SHAPE, "fp32", CPU, LONG)
    (copy,) = given
    assert not {id(module) for module in copy.modules()} & {id(module) for module in net.modules()}
    assert cache_file().exists()  # both kinds of steps were timed
    assert torch.equal(torch.random.get_rng_state(), numbers)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in net.parameters())


def test_without_a_compiler_auto_warns_and_stays_plain(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not compiles("auto", net, SHAPE, "fp32", CPU, LONG)
    assert "no C++ compiler" in capsys.readouterr().err


@pytest.mark.slow
def test_where_code_cannot_be_generated_auto_says_why_and_stays_plain(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho 'fatal error: Python.h: No such file or directory' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "code"))
    with inductor.patch({"cpp.cxx": (str(compiler),)}):  # which torch takes from CXX once a process
        assert not compiles("auto", net, SHAPE, "fp32", CPU, LONG)
    assert "steps stay plain, for torch.compile fails here (" in capsys.readouterr().err
    assert not cache_file().exists()


def test_where_times_cannot_be_kept_auto_says_so_and_goes_on(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measuring(monkeypatch, Steps(1.0, 0.1))
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert compiles("auto", net, SHAPE, "fp32", CPU, LONG)
    assert "/proc/nowhere/resnet-pipeline/steps.json cannot be written" in capsys.readouterr().err


def test_a_user_without_a_home_has_a_cache_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert cache_file().parent.is_dir() and cache_file() == cache_file()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="generated code needs g++")
def test_plain_and_compiled_steps_are_timed(net: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    first = compiles("auto", net, SHAPE, "fp32", CPU, LONG)
    assert "ms a step" in capsys.readouterr().err
    (kept,) = read_json(cache_file()).values()
    assert min(kept.values()) > 0
    assert first == (kept["compiled_s"] < kept["plain_s"])
    assert compiles("auto", net, SHAPE, "fp32", CPU, LONG) == first
    assert capsys.readouterr().err == ""
