from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import TINY, composed

from pipeline.learn.training.precision import float32_products, resolve
from pipeline.run.fit import fit


def rounding() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(("multiplies_bf16", "auto"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_what_the_cpu_multiplies_fast_and_a_named_choice_stays(
    monkeypatch: pytest.MonkeyPatch, multiplies_bf16: bool, auto: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: multiplies_bf16)
    assert [resolve(named, "cpu") for named in ("auto", "fp32", "bf16")] == [auto, "fp32", "bf16"]


def test_tf32_is_refused_where_nothing_multiplies_it() -> None:
    with pytest.raises(ValueError, match=r"recipe\.precision=tf32 .* use recipe\.precision=fp32"):
        resolve("tf32", "cpu")


@pytest.mark.parametrize(("precision", "rounded"), [("fp32", False), ("bf16", False), ("tf32", True)])
def test_only_tf32_lets_float32_factors_round(precision: str, rounded: bool) -> None:
    before = rounding()
    with pytest.raises(KeyError), float32_products(precision):
        assert rounding() == (rounded, rounded)
        raise KeyError
    assert rounding() == before


def test_a_training_in_fp32_rounds_no_factor(workspace: Callable[[], Path]) -> None:
    before, during, root = rounding(), set(), workspace()
    config = composed(root, *TINY, "recipe.max_steps=2", "recipe.precision=fp32")
    fit(config, root / "data/store/digits", report=lambda _: during.add(rounding()), track=False)
    assert during == {(False, False)} and rounding() == before
