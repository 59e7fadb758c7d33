"""trainer.debug: what each short training shows, and that it keeps no run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nets import make_model
from runs import a_net, save_net

from pipeline.cli import main
from pipeline.learn.models import build_model
from pipeline.run import debug
from pipeline.run.weights import BEST

NET = ("data=digits", "model.depth=8", "trainer.accelerator=cpu", "trainer.compile=false")


@pytest.fixture
def root(workspace, monkeypatch) -> Path:
    monkeypatch.chdir(made := workspace())
    return made


def kept(root: Path) -> list[Path]:
    """Runs, results and metrics that lie in the clone."""
    return [path for folder in ("runs", "experiments") for path in (root / folder).rglob("*") if path.is_file()]


def test_fast_goes_through_all_of_a_training_and_keeps_no_run(root, capsys):
    assert main(["train", *NET, "trainer.debug=fast", "trainer.val_every_epochs=3"]) == 0
    assert "10 steps went through, validation error " in capsys.readouterr().out
    assert kept(root) == []


def test_it_starts_from_a_run_and_leaves_that_as_it_is(root, capsys):
    save_net(build_model(make_model(8), 10, 1), file := root / "runs" / "0123456789ab" / BEST, a_net())
    before = file.read_bytes()
    given = ("start.weights=run:0123456789ab", "recipe.normalize=per_pixel_mean")
    assert main(["train", *NET, *given, "trainer.debug=fast"]) == 0
    assert "10 steps went through" in capsys.readouterr().out
    assert kept(root) == [file] and file.read_bytes() == before


def test_a_schedule_of_many_steps_is_no_obstacle(root):
    for schedule in (
        ["recipe.schedule=one_cycle", "recipe.milestones=[]", "recipe.warmup_fraction=0.2"],
        [
            "recipe.schedule=plateau",
            "recipe.warmup_fraction=0",
            "recipe.plateau_patience=2",
            "trainer.val_every_epochs=1",
        ],
        ["recipe.stop_patience=1"],
    ):
        assert main(["train", *NET, "trainer.debug=fast", *schedule]) == 0


def test_a_net_that_learns_knows_a_batch_by_heart(root, capsys):
    assert main(["train", *NET, "trainer.debug=overfit", "recipe.batch_size=32", "recipe.augment.erasing=0.5"]) == 0
    printed = capsys.readouterr().out
    assert "knows 32 images by heart after " in printed
    assert kept(root) == []


def test_a_net_that_cannot_learn_is_a_sentence_and_an_error(root, capsys, monkeypatch):
    monkeypatch.setattr(debug, "HEART_STEPS", 40)
    assert main(["train", *NET, "trainer.debug=overfit", "recipe.batch_size=32", "recipe.lr=1e-9"]) == 2
    assert "after 40 steps on the same 32 images it still errs on " in capsys.readouterr().err
    assert kept(root) == []


def test_profile_writes_a_trace_of_operations_and_a_table(root, capsys):
    assert main(["train", *NET, "trainer.debug=profile"]) == 0
    trace = root / "experiments" / "digits" / "trace.json"
    assert kept(root) == [trace]
    printed = capsys.readouterr().out
    assert f"20 steps; {trace} opens in" in printed and "convolution" in printed
    assert any("conv" in event.get("name", "") for event in json.loads(trace.read_text())["traceEvents"])


@pytest.mark.parametrize("verb", ["sweep", "compose", "evaluate"])
def test_other_verbs_refuse_it(verb, root, capsys):
    assert main([verb, "trainer.debug=fast"]) == 2
    assert "only `pipeline train` debugs (override: trainer.debug='')" in capsys.readouterr().err
    assert main([verb, "trainer.debug=''", "--cfg", "job"]) == 0  # the remedy composes


def test_ray_is_left_out(root, capsys):
    assert main(["train", *NET, "trainer.debug=fast", "trainer.launcher=ray"]) == 2
    assert "(override: trainer.launcher=lightning)" in capsys.readouterr().err


def test_the_store_that_machines_share_gets_no_run(root, tmp_path):
    assert main(["train", *NET, "trainer.debug=fast", f"cluster.storage=file://{tmp_path}/store"]) == 0
    assert not (tmp_path / "store").exists()


def test_another_runs_checkpoint_is_refused(root, capsys):
    assert main(["train", *NET, "trainer.debug=fast", "start.checkpoint='0123456789ab'"]) == 2
    assert "a debug training begins at step 0 (override: start.checkpoint='')" in capsys.readouterr().err
