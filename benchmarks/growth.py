"""How cost grows with steps, images, members and trials: sizes of 1, 4 and 16 times, as rows and in growth.png.

A row compares the cost at 16 times with the line through 1 and 4 times; a constant cost is on both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from matplotlib.figure import Figure

from benchmarks.commands import run, workspace
from benchmarks.harness import FULL, Bench, Measured, Row, one_thread, quiet
from benchmarks.photos import photo_archive, photos, preprocessed
from benchmarks.sweep import SMALL
from benchmarks.synthetic import changed, paper_config, synthetic_store
from pipeline.atomic import read_json, replacing
from pipeline.ensemble import selection
from pipeline.ensemble.forward import average
from pipeline.ensemble.predictions import probabilities, validation_images
from pipeline.run import RUN
from pipeline.run.fit import fit
from pipeline.run.weights import BEST

TIMES = (1, 4, 16)
LINEAR = 1.3  # most that the largest size may cost, as a multiple of the line
FIGURE = "growth.png"


@dataclass(frozen=True)
class Growth:
    """The cost at three sizes."""

    title: str
    counted: str  # what a size counts
    unit: str  # of the costs
    sizes: Sequence[int]
    costs: Sequence[float]

    @property
    def line(self) -> float:
        """What the largest size would cost on the line through the other two."""
        (x1, x2, x3), (y1, y2, _) = self.sizes, self.costs
        return y1 + (y2 - y1) * (x3 - x1) / (x2 - x1)


def section(bench: Bench, depth: int = 8, batch_size: int = 128) -> list[Measured]:
    full = bench.effort is FULL
    growths = [
        training(bench, 25 if full else 12, depth, batch_size),
        *preprocessing(bench, 120),
        ensembles(bench, 3, depth),
        trials(bench, 3 if full else 1),
    ]
    with replacing(bench.out / FIGURE) as part:
        figure(growths).savefig(part, format="png")
    return [bench.measure(row(growth)) for growth in growths]


def row(growth: Growth) -> Row:
    return Row(
        name=f"{growth.title}, {growth.sizes[-1]:,} {growth.counted} against the line through {growth.sizes[0]} and {growth.sizes[1]}",
        unit=growth.unit,
        bar=LINEAR,
        judged="ratio <=",
        ours=lambda: growth.costs[-1],
        reference=lambda: growth.line,
        pairs=1,
    )


def training(bench: Bench, steps: int, depth: int, batch_size: int) -> Growth:
    """Seconds of `fit`, each on a new run."""
    folder = bench.folder("growth-training")
    config = changed(
        paper_config(bench.store, folder, depth), recipe={"batch_size": batch_size}, trainer={"compile": False}
    )

    def cost(count: int) -> float:
        runs = {"runs": str(folder / f"{count}-{time.monotonic_ns()}")}  # a finished run would not train again
        start = time.perf_counter()
        fit(changed(config, paths=runs, recipe={"max_steps": count}), bench.store.path, track=False)
        return time.perf_counter() - start

    with one_thread():
        with quiet():
            cost(2)  # imports, and kernels for these shapes
        return _grown(bench, "time of a training", "steps", "s", steps, cost)


def preprocessing(bench: Bench, images: int) -> list[Growth]:
    """Seconds and peak memory of preprocess on photos, two threads, in a process of its own; the lesser of two."""
    folder = bench.folder("growth-photos")
    jpegs = list(photos(images, 256, 256))
    archives = [folder / f"{times}.tar" for times in TIMES]
    for times, archive in zip(TIMES, archives, strict=True):
        photo_archive(archive, jpegs, times)
    made = [[preprocessed(archive, 128, 2) for archive in archives] for _ in range(2)]
    seconds, peaks = ([min(turn[at][key] for turn in made) for at in range(len(TIMES))] for key in ("seconds", "peak"))
    bench.say(f"preprocess: {', '.join(f'{cost:.2f}' for cost in seconds)} s")
    sizes = [images * times for times in TIMES]
    return [
        Growth("time of preprocess", "images", "s", sizes, seconds),
        Growth("memory of preprocess", "images", "MB", sizes, [peak / 1e6 for peak in peaks]),
    ]


def ensembles(bench: Bench, members: int, depth: int) -> Growth:
    """Seconds from nets to an ensemble's probabilities: those of each net, the greedy choice, the average."""
    folder = bench.folder("growth-members")
    images = validation_images(bench.store)
    images = replace(images, indices=images.indices[:1_000])
    config = changed(
        paper_config(bench.store, folder, depth), recipe={"max_steps": 1, "batch_size": 8}, trainer={"compile": False}
    )
    with quiet():
        fit(config, bench.store.path, track=False)
    (weights,) = folder.glob(f"*/{BEST}")

    def cost(count: int) -> float:
        cache = folder / f"cache-{count}-{time.monotonic_ns()}"
        start = time.perf_counter()
        each = [np.asarray(probabilities(weights, images, cache / str(at), bench.device)) for at in range(count)]
        chosen = selection.greedy(each, images.labels, 3)
        average([each[at] for at, _ in chosen], [weight for _, weight in chosen])
        return time.perf_counter() - start

    with one_thread():
        return _grown(bench, "time of an ensemble", "members", "s", members, cost)


def trials(bench: Bench, count: int) -> Growth:
    """Peak memory of the sweep's own process until so many trials have ended; the trials' memory is not in it."""
    root = bench.folder("growth-trials")
    store = synthetic_store(root / "store", side=8, images=1_200, num_val=200)
    workspace(root / "workspace", "digits", store.path)
    sizes = [count * times for times in TIMES]
    most: dict[int, float] = {}

    def watch(pid: int) -> None:
        ended = _ended(root / "workspace")
        try:
            memory = psutil.Process(pid).memory_info().rss / 1e6
        except psutil.Error:
            return
        for size in sizes:
            if ended < size:
                most[size] = max(most.get(size, 0.0), memory)

    space = f"sweep.space={{seed:[{','.join(map(str, range(sizes[-1])))}]}}"
    run(root / "workspace", "pipeline", "sweep", *SMALL, "recipe.max_steps=4", space, watch=watch)
    return Growth("memory of a sweep", "trials", "MB", sizes, [most[size] for size in sizes])


def _ended(root: Path) -> int:
    records = (read_json(path) for path in (root / "runs").glob(f"*/{RUN}"))
    return sum(record["status"] == "finished" for record in records)


def _grown(bench: Bench, title: str, counted: str, unit: str, size: int, cost: Callable[[int], float]) -> Growth:
    """The least cost of each size over the rounds that the effort allows."""
    sizes = [size * times for times in TIMES]
    costs = [float("inf")] * len(sizes)
    for _ in range(2 if bench.effort is FULL else 1):
        for at, count in enumerate(sizes):
            with quiet():
                costs[at] = min(costs[at], cost(count))
            bench.say(f"{title}, {count:,} {counted}: {costs[at]:.3g} {unit}")
    return Growth(title, counted, unit, sizes, costs)


def figure(growths: Sequence[Growth]) -> Figure:
    """A panel each: what was measured, and the line through the two smaller sizes."""
    figure = Figure(figsize=(3.1 * len(growths), 3.2), layout="constrained", dpi=150)
    for axes, growth in zip(figure.subplots(1, len(growths)), growths, strict=True):
        ends = [growth.sizes[0], growth.sizes[-1]]
        axes.plot(ends, [growth.costs[0], growth.line], "--", color="gray", linewidth=1.2, zorder=1)
        axes.plot(growth.sizes, growth.costs, "o", markersize=7, zorder=2)
        share = growth.costs[-1] / growth.line
        axes.text(0.97, 0.05, f"{share:.2f} of the line", transform=axes.transAxes, ha="right", fontsize=9)
        axes.set_title(growth.title, loc="left", fontsize=10)
        axes.set_xlabel(growth.counted)
        axes.set_ylabel(growth.unit)
        axes.set_ylim(0, 1.15 * max(*growth.costs, growth.line))
        axes.set_xlim(0, 1.06 * growth.sizes[-1])
        axes.set_xticks(growth.sizes, [f"{size:,}" for size in growth.sizes])
    return figure
