"""Files of weights of every kind that the reliability campaign makes: good ones are read, all others refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.run.start import starting_point
from reliability.weight_files import KINDS, small_net
from reliability.weights import EITHER

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("good")])
def test_good_weights_are_read_whatever_file_holds_them(kind: str, tmp_path: Path):
    KINDS[kind](random.Random(kind), tmp_path / "weights")
    net, first = small_net(), small_net().state_dict()
    start = starting_point(str(tmp_path / "weights"), tmp_path, None)
    start.load_into(net, head=True)
    assert all(torch.equal(tensor, first[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith(("good", *EITHER))])
def test_any_other_file_is_refused_in_one_sentence_and_runs_no_code(kind: str, tmp_path: Path, capfd):
    KINDS[kind](random.Random(kind), tmp_path / "weights")
    with pytest.raises(PipelineError) as refused:
        starting_point(str(tmp_path / "weights"), tmp_path, None).load_into(small_net(), head=True)
    assert str(refused.value).isprintable() and str(tmp_path) in str(refused.value)
    assert not (tmp_path / "mark").exists()
