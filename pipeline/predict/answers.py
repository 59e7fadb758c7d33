"""From image files to the classes of images, batch by batch, and how answers are written."""

from __future__ import annotations

import csv
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import Config
from pipeline.data.preprocess import Rejected, ordered_map
from pipeline.errors import printable
from pipeline.predict.images import pixels_of_file
from pipeline.predict.source import Predictor
from pipeline.progress import progress

log = logging.getLogger(__name__)

BATCH = 128  # images in a forward pass
DIGITS = 6  # of a probability
LONGEST = 4096  # characters of a file's name


class Answer(NamedTuple):
    """The most probable classes of an image, the first one first."""

    file: Path
    top: list[tuple[str, float]]  # class, probability


def answers(files: Sequence[Path], predictor: Predictor, config: Config) -> Iterator[Answer]:
    """Answers in the files' order; a file that cannot be read as an image has none and is named in a warning."""
    read = partial(pixels_of_file, resize=predictor.resize, megapixels=config.data.limits.megapixels)
    for batch in readable(files, read, predictor.title, config, BATCH):
        values = predictor.probabilities(np.stack([pixels for _, pixels in batch]))
        for (file, _), row in zip(batch, values, strict=True):
            yield Answer(file, _top(row, predictor.classes, config.predict.top))


def readable(
    files: Sequence[Path], read: Callable[[Path], Any], title: str, config: Config, size: int
) -> Iterator[list[tuple[Path, Any]]]:
    """Files and what `read` gives of them, at most `size` at once, with progress; a warning names each `Rejected` one."""
    workers = config.data.workers or os.cpu_count() or 1
    with progress(title, len(files), "images") as bar:
        pairs = zip(files, ordered_map(read, files, workers), strict=True)
        while batch := list(islice(pairs, size)):
            good = []
            for file, image in batch:
                if isinstance(image, Rejected):
                    log.warning("%s cannot be read: %s", printable(file, LONGEST), image.reason)
                else:
                    good.append((file, image))
            if good:
                yield good
            bar.advance(len(batch))


def _top(row: np.ndarray, classes: Sequence[str], count: int) -> list[tuple[str, float]]:
    """Equal probabilities keep the order of the classes."""
    order = np.argsort(-row, kind="stable")[:count]
    return [(classes[at], round(float(row[at]), DIGITS)) for at in order]


def write(answers: Iterable[Answer], output: str, title: str) -> int:
    """Prints answers as predict.output says; returns their number. CSV and JSON come line by line, as they are made."""
    if output == "csv":
        return _csv(answers)
    return _json(answers) if output == "json" else _table(answers, title)


def _json(answers: Iterable[Answer]) -> int:
    count = 0
    for count, (file, top) in enumerate(answers, 1):  # noqa: B007 (the last one is returned)
        entries = [{"class": name, "probability": probability} for name, probability in top]
        print(json.dumps({"image": str(file), **entries[0], "top": entries}))
    return count


def _csv(answers: Iterable[Answer]) -> int:
    writer, count = csv.writer(sys.stdout, lineterminator="\n"), 0
    for count, (file, top) in enumerate(answers, 1):
        if count == 1:
            ranks = ["", *(f"_{rank}" for rank in range(2, len(top) + 1))]
            writer.writerow(["image", *(f"{name}{rank}" for rank in ranks for name in ("class", "probability"))])
        writer.writerow([printable(file, LONGEST), *(value for entry in top for value in entry)])
    return count


def _table(answers: Iterable[Answer], title: str) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title)
    table.add_column("image", overflow="fold")
    table.add_column("class")
    table.add_column("probability", justify="right")
    table.add_column("next")
    for file, ((name, probability), *rest) in answers:
        others = ", ".join(f"{printable(other)} ({100 * value:.2f} %)" for other, value in rest)
        cells = printable(file, LONGEST), printable(name), f"{100 * probability:.2f} %", others
        table.add_row(*map(Text, cells))
    if table.row_count:
        Console().print(table)
    return table.row_count
