"""`pipeline train`: which of several ranks say what ended a training."""

from __future__ import annotations

import pytest
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from runs import TINY, Workspaces, composed

from pipeline.learn.training.divergence import DivergedError
from pipeline.run import Interrupted
from pipeline.run.meeting import RefusedByRankZero, SilentRanks
from pipeline.stages import train
from pipeline.workspace import Workspace

STOPPED, DIVERGED = Interrupted("stopped at step 5"), DivergedError("the training loss is nan")


@pytest.mark.parametrize(
    ("error", "elastic", "raised"),
    [
        (STOPPED, True, True),
        (RefusedByRankZero("no room"), True, True),
        (DIVERGED, True, False),
        (STOPPED, False, False),
        (SilentRanks("rank 3 on n3 fell silent"), False, True),
    ],
)
def test_another_machines_first_rank_ends_with_an_error_where_it_is_to_go_on_or_to_report(
    error: Exception, elastic: bool, raised: bool, workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun starts the ranks of a machine again after an error, and lets the machine go without one."""

    def ends(*_: object) -> None:
        raise error

    root = workspace()
    config = composed(root, *TINY, "trainer.launcher=torchrun", "trainer.num_nodes=2", f"trainer.elastic={elastic}")
    monkeypatch.setattr(train, "_train", ends)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    for local, expected in (("0", raised), ("1", False)):
        monkeypatch.setenv("LOCAL_RANK", local)
        if expected:
            with pytest.raises(type(error), match=str(error)):
                train.run(config, Workspace(root, "digits"))
        else:
            train.run(config, Workspace(root, "digits"))
