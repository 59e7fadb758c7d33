"""The run that the train stage made, described like a member."""

from __future__ import annotations

from pathlib import Path

from pipeline.atomic import read_json, sha256
from pipeline.ensemble.folder import Member
from pipeline.ensemble.members import recipe_of, started
from pipeline.run.weights import BEST, load_weights
from pipeline.tracking import journal, shipper
from pipeline.tracking.store import Location


def named_run(summary: Path, runs: Path, location: Location) -> tuple[Member, Path]:
    """The run of train.json, and its weights.

    Args:
        summary: what the train stage published.
        runs: folder of all runs, paths.runs.
        location: MLflow, where the run is looked up by its id; "" while it is not there.
    Raises:
        FileNotFoundError: no summary, or the run's folder lies on another machine.
    """
    if not summary.is_file():
        raise FileNotFoundError(f"{summary} is missing; `dvc repro train` makes it")
    run = read_json(summary)
    folder = runs / run["key"]
    events, _ = journal.read(folder / journal.NAME)
    begun = [event for event in events if event["event"] == "begin"]
    if not begun or not (folder / BEST).is_file():
        raise FileNotFoundError(
            f"{folder} does not hold run {run['key']} of {summary.name} with its weights; run `dvc repro -f train`, "
            "or point paths.runs (PIPELINE_RUNS) at the folder where it was trained"
        )
    params = begun[-1]["params"]
    record = load_weights(folder / BEST)[1]
    member = Member(
        run_id=shipper.run_id(folder, location) or "",
        key=run["key"],
        model=record.name,
        depth=record.model.depth,
        residual=record.model.residual,
        lr=params["recipe.lr"],
        seed=params["seed"],
        steps=run["steps"],
        params=record.params,
        macs=record.macs,
        weight=None,
        val_err1=run["val_err1"],
        checkpoint_sha256=sha256(folder / BEST),
        weights=BEST,
        num_train=int(params.get("data.num_train", 0)),
        start=started(params),
        recipe=recipe_of(params),
    )
    return member, folder / BEST
