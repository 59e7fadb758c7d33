"""What campaigns count as promised."""

from __future__ import annotations

import random
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from nets import make_net

from pipeline.errors import PipelineError
from reliability import Outcome, __main__
from reliability.__main__ import rows_of
from reliability.child import Ended
from reliability.config import names_a_key
from reliability.datasets import class_folders, config, outcome
from reliability.tracking import goes_on


def test_rows_of_a_campaign_may_have_promises_of_their_own() -> None:
    outcomes = [Outcome("one", True, row="kills"), Outcome("other", True, row="odd runs")]
    module = SimpleNamespace(__doc__="Faults.", PROMISE={"kills": "goes on", "odd runs": "is named"})
    assert [row.promise for row in rows_of("tracking", module, outcomes, seed=1, seconds=2.0)] == [
        *module.PROMISE.values()
    ]
    module.PROMISE = "goes on"
    assert {row.promise for row in rows_of("tracking", module, outcomes, seed=1, seconds=2.0)} == {"goes on"}


def test_fuzzing_is_left_out_where_the_fuzzer_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    monkeypatch.setattr(sys, "argv", ["reliability", "fuzz"])
    monkeypatch.setattr(__main__, "_run_apart", lambda *_: pytest.fail("it ran"))
    assert __main__.main() == 0
    assert "fuzz is left out: atheris is missing" in capsys.readouterr().out


def test_an_odd_run_is_named_and_the_other_one_taken() -> None:
    quiet = Ended(0, "average: registered as digits version 1", seconds=1.0)
    named = Ended(0, f"left out of MLflow: 0d5e (not the record of a net)\n{quiet.output}", seconds=1.0)
    taken = partial(goes_on, members=["good"], other="good", run="0d5e")
    whole = make_net().to_tag()
    assert taken(named, tag="{") and not taken(quiet, tag="{")
    assert taken(quiet, tag=whole)  # nothing is odd in it
    assert not goes_on(named, ["bad"], "good", "0d5e", "{")
    assert not taken(Ended(2, named.output, seconds=1.0), tag="{")


def test_a_refusal_counts_where_it_names_what_was_given() -> None:
    refusal = PipelineError("recipe.lr=-1; it must be above 0")
    assert names_a_key(refusal) and names_a_key(refusal, ["seed", "recipe.lr"])
    assert not names_a_key(refusal, ["seed"])
    assert not names_a_key(PipelineError("recipe.lr=\x1b[2J; it must be a number"), ["recipe.lr"])


@pytest.mark.parametrize(("named", "ok"), [("odd.png", True), ("other.png", False)])
def test_a_data_set_with_an_odd_image_is_refused_by_the_images_name(named: str, ok: bool, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for file, content in {**class_folders(random.Random(0)), "train/cat/odd.png": b"no image"}.items():
        (root / "set" / file).parent.mkdir(parents=True, exist_ok=True)
        (root / "set" / file).write_bytes(content)
    assert outcome("", config(root / "set"), root, lambda manifest: False, named=named).ok is ok
