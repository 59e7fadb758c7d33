"""From image files to the classes of images, batch by batch, and how answers are written."""

from __future__ import annotations

import csv
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import Config
from pipeline.data.convert import Rejected, ordered_map
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

    def as_json(self) -> dict[str, Any]:
        entries = [{"class": name, "probability": probability} for name, probability in self.top]
        return {**entries[0], "top": entries}

    def as_csv(self) -> list[dict[str, Any]]:
        row: dict[str, Any] = {}
        for rank, (name, probability) in enumerate(self.top, 1):
            ending = f"_{rank}" if rank > 1 else ""
            row |= {f"class{ending}": name, f"probability{ending}": probability}
        return [row]

    def as_table(self) -> list[dict[str, Any]]:
        (name, probability), *rest = self.top
        others = ", ".join(f"{printable(other)} ({100 * value:.2f} %)" for other, value in rest)
        return [{"class": printable(name), "probability": f"{100 * probability:.2f} %", "next": others}]


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
    with progress(title, len(files), "images") as bar:
        pairs = zip(files, ordered_map(read, files, config.data.decoders), strict=True)
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


def write(answers: Iterable[Any], output: str, title: str) -> int:
    """Prints answers as predict.output says; returns their number. CSV and JSON come image by image, a table comes at the end.

    Args:
        answers: each an `Answer` or an `objects.ImageObjects`.
    """
    writer, count = csv.writer(sys.stdout, lineterminator="\n"), 0
    table: list[dict[str, Any]] = []
    try:
        for count, answer in enumerate(answers, 1):
            name = printable(answer.file, LONGEST)
            if output == "json":
                print(json.dumps({"image": str(answer.file), **answer.as_json()}))
            elif output == "csv":
                rows = [{"image": name, **row} for row in answer.as_csv()]
                if count == 1:
                    writer.writerow(rows[0].keys())
                writer.writerows(row.values() for row in rows)
            else:
                table += [{"image": name, **row} for row in answer.as_table()]
    finally:  # what there is of it where the command is interrupted, too
        if table:
            _print(table, title)
    return count


def _print(rows: list[dict[str, Any]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title)
    for name in rows[0]:
        justify: Any = "left" if name in ("image", "class", "next") else "right"
        table.add_column(name, justify=justify, overflow="fold" if name == "image" else "ellipsis")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row.values()))
    Console().print(table)
