"""A sweep of equal trials against the same trainings one after another; the data set in memory, shared by two trials.

Run as a module it is the loop: `python -m benchmarks.sweep TRIALS OVERRIDES`, in a workspace.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.commands import run, workspace
from benchmarks.harness import FULL, Bench, Judged, Measured, Row
from benchmarks.synthetic import synthetic_store
from pipeline.anchor import anchor
from pipeline.atomic import read_json
from pipeline.compose import compose
from pipeline.config import from_dict
from pipeline.data.store import Store
from pipeline.run import RUN
from pipeline.run.fit import fit
from pipeline.tracking import journal
from pipeline.workspace import Workspace

OVERHEAD_S, SHARE = 1.5, 1.1  # a trial's, and that of ten trials of two minutes
TRIALS, LONG_S = 10, 120.0
COPIES = 1.05  # of the data set in memory
AROUND = 64 << 10  # bytes that Linux maps when one of them is read

# A second of training on one core: short enough that the cost around a trial stands out.
SMALL = (
    "data=digits",
    "model.depth=8",
    "recipe.max_steps=34",
    "trainer.accelerator=cpu",
    "trainer.threads=1",
    "trainer.compile=false",
    "tracking.system_metrics_every_s=0",
    "sweep.reduction_factor=0",
    "cluster.cpus_per_trial=1",
)


@dataclass(frozen=True)
class Times:
    """Several trainings in one process, in seconds."""

    trial_s: float  # from the beginning of one training to the beginning of the next
    once_s: float  # everything else: imports, Ray, MLflow's tables, what the first training waits for


def section(bench: Bench, images: int = 1_800) -> list[Measured]:
    small = synthetic_store(bench.folder("equal") / "store", side=8, images=images, num_val=images // 6)
    full = bench.effort is FULL
    rows = overhead_rows(bench, small, trials=16 if full else 8, pairs=2 if full else 1)
    if Path("/proc/self/smaps").exists():  # only Linux reports what a mapping costs
        rows.append(memory_row(bench))
    return [bench.measure(row) for row in rows]


def overhead_rows(bench: Bench, store: Store, trials: int, pairs: int) -> list[Row]:
    """Trials of one core, one at a time, against a loop of the same; both ship to MLflow. The sweeps run here."""
    swept: list[Times] = []
    looped: list[Times] = []
    for pair in range(pairs):
        for name, results, measure in (("sweep", swept, sweep_times), ("loop", looped, loop_times)):
            results.append(measure(workspace(bench.work / f"{name}-{pair}", "digits", store.path), trials))
        bench.say(f"a trial: {swept[-1].trial_s:.2f} s in a sweep, {looped[-1].trial_s:.2f} s in a loop")
    excess = [ours.trial_s - loop.trial_s for ours, loop in zip(swept, looped, strict=True)]
    long = [times.once_s + TRIALS * (LONG_S + extra) for times, extra in zip(swept, excess, strict=True)]

    def row(name: str, ours: list[float], reference: list[float], bar: float | None, judged: Judged) -> Row:
        return Row(
            name=name,
            unit="s",
            bar=bar,
            judged=judged,
            ours=iter(ours).__next__,
            reference=iter(reference).__next__,
            pairs=pairs,
        )

    trial, once = ([[getattr(t, key) for t in side] for side in (swept, looped)] for key in ("trial_s", "once_s"))
    return [
        row("a trial, in a sweep against a loop", trial[0], trial[1], OVERHEAD_S, "excess <="),
        row("what a sweep costs once, against the loop's process", once[0], once[1], None, "ratio >="),
        row(
            f"{TRIALS} trials of {LONG_S:g} s, from the two rows above",
            long,
            [seconds + TRIALS * LONG_S for seconds in once[1]],
            SHARE,
            "ratio <=",
        ),
    ]


def sweep_times(root: Path, trials: int) -> Times:
    """`pipeline sweep` over as many seeds, one at a time."""
    space = f"sweep.space={{seed:[{','.join(map(str, range(trials)))}]}}"
    return _times(root, run(root, "pipeline", "sweep", *SMALL, space, "cluster.max_concurrent=1"))


def loop_times(root: Path, trials: int) -> Times:
    """The same trainings in a process without Ray."""
    return _times(root, run(root, "benchmarks.sweep", str(trials), *SMALL))


def _times(root: Path, seconds: float) -> Times:
    """From the journals: a training costs the time from the second beginning to the last, over their number."""
    begun = []
    for path in (root / "runs").glob(f"*/{journal.NAME}"):
        event = journal.read(path)[0][0]
        if not event["name"].startswith("sweep") and (path.parent / RUN).exists():
            begun.append(event["time"] / 1000)
    begun.sort()
    trial_s = (begun[-1] - begun[1]) / (len(begun) - 2)
    return Times(trial_s=trial_s, once_s=seconds - len(begun) * trial_s)


def memory_row(bench: Bench) -> Row:
    """Memory of the images under two trials at once, as the kernel counts it: each owns half of a page that both map."""
    return Row(
        name="two trials' images in memory, against the data set",
        unit="MB",
        bar=COPIES,
        judged="ratio <=",
        ours=lambda: shared_bytes(bench.work / "shared", bench.store) / 1e6,
        reference=lambda: images_file(bench.store).stat().st_size / 1e6,
        pairs=1,
    )


def shared_bytes(root: Path, store: Store, batch_size: int = 128) -> int:
    """The most that two trials side by side had in memory of the images' file.

    Raises:
        ValueError: no trial mapped it: the images are somewhere else.
    """
    pages = images_file(store).stat().st_size // AROUND
    # As many random reads as leave a fiftieth of the pages unread; validation reads a part again.
    steps = max(4, 4 * pages // batch_size)
    most = 0

    def watch(_: int) -> None:
        nonlocal most
        most = max(most, sum(_mapped(pid, images_file(store).name) for pid in _trials(root)))

    workspace(root, "cifar10", store.path)
    run(
        root,
        "pipeline",
        "sweep",
        "data=cifar10",
        "recipe=cifar_quick",
        f"recipe.batch_size={batch_size}",
        *(setting for setting in SMALL if not setting.startswith(("data=", "recipe."))),
        f"recipe.max_steps={steps}",
        "sweep.space={seed:[0,1]}",
        "cluster.max_concurrent=2",
        watch=watch,
    )
    if not most:
        raise ValueError(f"no trial was seen to map {images_file(store)}")
    return most


def images_file(store: Store) -> Path:
    return store.path / "train_images.npy"


def _trials(root: Path) -> set[int]:
    """Process ids of the trials that are running."""
    records = (read_json(path) for path in (root / "runs").glob(f"*/{RUN}"))
    return {record["pid"] for record in records if record["status"] == "running"}


def _mapped(pid: int, name: str) -> int:
    """Proportional share (PSS) of a process in the pages of the files called `name`; 0 when the process is gone."""
    total, inside = 0, False
    try:
        for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
            key, *rest = line.split()
            if not key.endswith(":"):
                inside = line.endswith(f"/{name}")
            elif inside and key == "Pss:":
                total += int(rest[0]) * 1024
    except OSError:
        return 0
    return total


def loop(trials: int, overrides: list[str]) -> None:
    space = Workspace(Path.cwd())
    config = anchor(from_dict(compose(space.root, overrides)), space.root)
    for seed in range(trials):
        fit(replace(config, seed=seed), space.store(config.data.name))


if __name__ == "__main__":
    loop(int(sys.argv[1]), sys.argv[2:])
