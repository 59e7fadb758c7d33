"""Recorded steps, on a CPU that keeps to a CUDA graph's rules (`tape`); tests/gpu has those on a GPU."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import same
from tape import TapeRecorder

from benchmarks.synthetic import changed, paper_config, synthetic_store
from pipeline.config import AugmentConfig
from pipeline.data.store import Store
from pipeline.fast import graphs
from pipeline.learn.input.batches import batches_of
from pipeline.learn.training import module
from pipeline.learn.training.classifier import Classifier
from pipeline.learn.training.counts import add_batch
from pipeline.run.fit import fit
from pipeline.tracking import journal

STEPS = 22


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("graphed") / "store", side=16, classes=4, images=96, num_val=16)


def trained(store: Store, work: Path, **sections: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The last checkpoint and the metrics of a training whose rate changes from step to step."""
    recipe = {"max_steps": STEPS, "batch_size": 8, "schedule": "one_cycle", "warmup_fraction": 0.3}
    trainer = {"accelerator": "cpu", "compile": False, "log_every_steps": 6, "cuda_graphs": True}
    config = changed(paper_config(store, work, depth=8), data={"split": "holdout"})
    config = changed(config, recipe=recipe | sections.get("recipe", {}), trainer=trainer | sections.get("trainer", {}))
    result = fit(config, store.path, track=False)
    folder = Path(config.paths.runs) / result.key
    events, _ = journal.read(folder / journal.NAME)
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    logged = [(e["step"], e["values"]) for e in events if e["event"] == "metrics"][:-1]  # the last one tells the time
    return checkpoint, logged


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> TapeRecorder:
    """Trainings choose what they choose on a CUDA device; recorded steps go through a tape."""
    recorder = TapeRecorder()
    monkeypatch.setattr(Classifier, "_on_gpu", property(lambda _: True))
    monkeypatch.setattr(module, "GraphedStep", partial(graphs.GraphedStep, recorder=recorder))
    return recorder


def assert_equal(one: tuple[dict[str, Any], list[Any]], other: tuple[dict[str, Any], list[Any]]) -> None:
    for part in ("global_step", "epoch", "state_dict", "optimizer_states", "classifier", "callbacks"):
        assert same(one[0][part], other[0][part]), f"{part} differs"
    assert one[1] == other[1]


MIXED = AugmentConfig(crop=16, erasing=0.5, mixup=0.2, cutmix=1.0, trivial_augment=True)


@pytest.mark.parametrize(
    "recipe",
    [
        *({"precision": "fp32"}, {"precision": "bf16"}, {"muon_lr": 0.02}, {"augment": MIXED}),
        {"accumulate": 2, "clip_norm": 0.3, "ema": 0.9},
    ],
    ids=["fp32", "bf16", "Muon", "mixed images", "parts, clipped, averaged"],
)
def test_recorded_steps_learn_bit_for_bit_what_plain_ones_do(
    recipe: dict[str, Any], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = as_on_a_gpu(monkeypatch)
    plain = trained(store, tmp_path / "plain", recipe=recipe, trainer={"cuda_graphs": False})
    assert recorder.ran == 0
    recorded = trained(store, tmp_path / "recorded", recipe=recipe, trainer={"steps_per_call": 4})
    assert (recorder.ran, recorder.recorded, recorder.replayed) == (graphs.WARM_UP, 1, STEPS - graphs.WARM_UP)
    assert_equal(recorded, plain)


def test_a_step_on_images_of_another_size_is_recorded_anew(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, small = as_on_a_gpu(monkeypatch), {"small_side": 8, "small_fraction": 0.5}
    plain = trained(store, tmp_path / "plain", recipe=small, trainer={"cuda_graphs": False})
    recorded = trained(store, tmp_path / "recorded", recipe=small, trainer={"steps_per_call": 25})
    assert (recorder.recorded, recorder.ran + recorder.replayed) == (2, STEPS)
    assert_equal(recorded, plain)


def test_the_tape_notices_a_number_that_a_recording_would_keep(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the optimiser's rate would be, were it no tensor."""
    as_on_a_gpu(monkeypatch)

    def as_a_number(self: Classifier, rate: float) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    plain = trained(store, tmp_path / "plain", trainer={"cuda_graphs": False})
    monkeypatch.setattr(Classifier, "_set_rate", as_a_number)
    recorded = trained(store, tmp_path / "recorded", trainer={"steps_per_call": 4})
    assert not same(recorded[0]["state_dict"], plain[0]["state_dict"])


def test_a_step_that_looks_at_values_cannot_be_recorded() -> None:
    step = graphs.GraphedStep(lambda _, batch: batch[0].sum().item(), torch.device("cpu"), TapeRecorder())  # type: ignore[arg-type]
    batch = [torch.ones(3)]
    for _ in range(graphs.WARM_UP):
        step(0, batch)
    with pytest.raises(AssertionError, match="looks at a tensor's values"):
        step(0, batch)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="generated code needs g++")
def test_compiled_batches_and_counts_are_the_plain_ones_bit_for_bit(store: Store, tmp_path: Path) -> None:
    """As a compiled training on a GPU makes them; the GPU's code is other code from the same description."""
    config = paper_config(store, tmp_path)
    batches = batches_of(store.train(), store.statistics("full"), config.recipe.augment, config.recipe.normalize, 1)
    finish, count = (torch.compile(each, dynamic=False) for each in (batches.finish, add_batch))
    chance = np.random.default_rng(0)
    compiled, plain = torch.zeros(2, 4, dtype=torch.float64)
    for _ in range(3):
        raw = batches.fetch(chance.permutation(96)[:16], chance.random((16, 3), dtype=np.float32))
        (images, labels), (expected, expected_labels) = finish(raw), batches.finish(raw)
        assert torch.equal(images, expected) and images.stride() == expected.stride()
        assert torch.equal(labels, expected_labels)
        logits = torch.randn(16, 4).round(decimals=1)
        with torch.no_grad():
            count(compiled, logits, labels, torch.tensor(1.5))
        add_batch(plain, logits, labels, torch.tensor(1.5))
    assert torch.equal(compiled, plain)
