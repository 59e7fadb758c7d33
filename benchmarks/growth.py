"""How cost grows: steps, images, members and trials at 1, 4 and 16 times, in one figure (growth.png) and as rows.

A row holds what 16 times cost against the line through 1 and 4 times: what is paid once, whatever the size, is on both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.bench import FULL, Bench
from benchmarks.commands import run, workspace
from benchmarks.configs import changed, paper_config
from benchmarks.harness import Measured, Row, quiet
from benchmarks.photos import photo_archive, photos
from benchmarks.preprocessing import measured
from benchmarks.sweep import SMALL
from benchmarks.synthetic import synthetic_store
from pipeline.atomic import read_json, replacing
from pipeline.ensemble import selection
from pipeline.ensemble.predictions import probabilities, validation_images
from pipeline.report.theme import LIGHT, Draw, Theme, new_figure, render
from pipeline.run.attempt import RUN
from pipeline.run.checkpoint import BEST
from pipeline.run.fit import fit

TIMES = (1, 4, 16)
LINEAR = 1.3  # at most so much above the line
FIGURE = "growth.png"


@dataclass(frozen=True)
class Growth:
    """What three sizes cost."""

    title: str
    counted: str  # what there is more of
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
    found = [
        training(bench, 25 if full else 12, depth, batch_size),
        *preprocessing(bench, 120),
        ensembles(bench, 3, depth),
        trials(bench, 3 if full else 1),
    ]
    with replacing(bench.out / FIGURE) as part:
        part.write_bytes(render(figure(found), LIGHT))
    return [bench.measure(row(growth)) for growth in found]


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
    """Seconds of `fit`, on runs of their own; on one thread, which other processes disturb the least."""
    folder = bench.folder("growth-training")
    config = changed(
        paper_config(bench.store, folder, depth), recipe={"batch_size": batch_size}, trainer={"compile": False}
    )

    def cost(count: int) -> float:
        runs = {"runs": str(folder / f"{count}-{time.monotonic_ns()}")}  # the same run again would be found finished
        start = time.perf_counter()
        fit(changed(config, paths=runs, recipe={"max_steps": count}), bench.store.path, track=False)
        return time.perf_counter() - start

    with one_thread():
        with quiet():
            cost(2)  # imports, and kernels for these shapes
        return _grown(bench, "time of a training", "steps", "s", steps, cost)


def preprocessing(bench: Bench, images: int) -> list[Growth]:
    """Seconds and greatest memory of preprocess on photos, two threads, in a process of its own; the least of two."""
    folder = bench.folder("growth-photos")
    jpegs = list(photos(images, 256, 256))
    archives = [folder / f"{times}.tar" for times in TIMES]
    for times, archive in zip(TIMES, archives, strict=True):
        photo_archive(archive, jpegs, times)
    made = [[measured(archive, 128, 2) for archive in archives] for _ in range(2)]
    seconds, peaks = ([min(turn[at][key] for turn in made) for at in range(len(TIMES))] for key in ("seconds", "peak"))
    bench.told(f"preprocess: {', '.join(f'{cost:.2f}' for cost in seconds)} s")
    sizes = [images * times for times in TIMES]
    return [
        Growth("time of preprocess", "images", "s", sizes, seconds),
        Growth("memory of preprocess", "images", "MB", sizes, [peak / 1e6 for peak in peaks]),
    ]


def ensembles(bench: Bench, members: int, depth: int) -> Growth:
    """Seconds from nets to an ensemble's probabilities: each one's own, the greedy choice of some, their average."""
    folder = bench.folder("growth-members")
    images = validation_images(bench.store)
    images = replace(images, indices=images.indices[:1_000])
    config = changed(
        paper_config(bench.store, folder, depth), recipe={"max_steps": 1, "batch_size": 8}, trainer={"compile": False}
    )
    with quiet():
        weights = Path(fit(config, bench.store.path, track=False).folder) / BEST

    def cost(count: int) -> float:
        cache = folder / f"said-{count}-{time.monotonic_ns()}"
        start = time.perf_counter()
        said = [np.asarray(probabilities(weights, images, cache / str(at), bench.device)) for at in range(count)]
        chosen = selection.greedy(said, images.labels, 3)
        selection.average([said[at] for at, _ in chosen], [weight for _, weight in chosen])
        return time.perf_counter() - start

    with one_thread():
        return _grown(bench, "time of an ensemble", "members", "s", members, cost)


def trials(bench: Bench, count: int) -> Growth:
    """Greatest memory of the sweep's own process until so many trials have ended; what they take is not in it."""
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


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ended(root: Path) -> int:
    facts = (read_json(path) for path in (root / "runs").glob(f"*/{RUN}"))
    return sum(run["status"] == "finished" for run in facts)


def _grown(bench: Bench, title: str, counted: str, unit: str, size: int, cost: Callable[[int], float]) -> Growth:
    """The least of what each size costs, each measured as often as there is time for."""
    sizes = [size * times for times in TIMES]
    costs = [float("inf")] * len(sizes)
    for _ in range(2 if bench.effort is FULL else 1):
        for at, count in enumerate(sizes):
            with quiet():
                costs[at] = min(costs[at], cost(count))
            bench.told(f"{title}, {count:,} {counted}: {costs[at]:.3g} {unit}")
    return Growth(title, counted, unit, sizes, costs)


def figure(found: Sequence[Growth]) -> Draw:
    """A panel each: what was measured, and the line through the two smaller sizes."""

    def draw(theme: Theme) -> Any:
        drawn = new_figure(3.1 * len(found), 3.2)
        for axes, growth in zip(drawn.subplots(1, len(found)), found, strict=True):
            ends = [growth.sizes[0], growth.sizes[-1]]
            axes.plot(ends, [growth.costs[0], growth.line], "--", color=theme.muted, linewidth=1.2, zorder=1)
            axes.plot(growth.sizes, growth.costs, "o", color=theme.palette[0], markersize=7, zorder=2)
            share = growth.costs[-1] / growth.line
            axes.text(0.97, 0.05, f"{share:.2f} of the line", transform=axes.transAxes, ha="right", fontsize=9)
            axes.set_title(growth.title, loc="left")
            axes.set_xlabel(growth.counted)
            axes.set_ylabel(growth.unit)
            axes.set_ylim(0, 1.15 * max(*growth.costs, growth.line))
            axes.set_xlim(0, 1.06 * growth.sizes[-1])
            axes.set_xticks(growth.sizes, [f"{size:,}" for size in growth.sizes])
        return drawn

    return draw
