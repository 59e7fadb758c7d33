"""Tables beside images: CSV, or JSON lines as in Hugging Face's metadata.jsonl.

The column that names images is the one whose values do, whatever its title; the extension may be omitted.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.data.archives import Entry
from pipeline.data.listing import TABLES, Listing
from pipeline.data.records import composed
from pipeline.data.roles import role
from pipeline.errors import PipelineError, printable

_GUESSES = "submission"  # in the name of a table whose labels are an example of what to hand in
SHOWN, TABLES_SHOWN = 20, 3  # columns and tables in an error


class Table(NamedTuple):
    """The rows of a table that name images."""

    entry: Entry
    folder: str  # where it lies, "" at the top
    role: str  # by the name of the file or of its folder; "" if neither says
    titles: list[str]
    rows: list[list[str]]
    images: int  # the column that names images
    places: _Index

    @property
    def name(self) -> str:
        return printable(self.entry.name)

    def covers_a_folder(self) -> bool:
        """Whether it lies at the top and names every image of one folder there, and no other image."""
        named = {at for row in self.rows for at in self.places.find(row[self.images], "", self.role or "train")}
        tops = {self.places.top(at) for at in named}
        return not self.folder and len(tops) == 1 and len(named) == self.places.count(*tops)


class _Index:
    """Images by what a row may call them: path or file name, with or without the extension."""

    def __init__(self, listing: Listing) -> None:
        self._places: dict[str, list[int]] = {}
        self._paths = [composed("/".join(listing.parts(entry))) for entry in listing.images]
        for at, path in enumerate(self._paths):
            stem = path.rpartition(".")[0]
            for key in {path, stem, path.rpartition("/")[2], stem.rpartition("/")[2]}:
                self._places.setdefault(key, []).append(at)

    def find(self, value: str, folder: str, part: str) -> list[int]:
        """Images that `value` may name: those at that path, then those of the split `part`, then all others."""
        value = composed(value.strip()).replace("\\", "/").removeprefix("./")
        exact = self._places.get(f"{folder}/{value}" if folder else value, [])
        places = exact or self._places.get(value) or self._places.get(value.rpartition("/")[2], [])
        own = [at for at in places if part and role(self._paths[at].split("/")[0]) == part]
        return own or places

    def in_full(self, value: str, places: list[int]) -> bool:
        """Whether `value`, which names the images at `places`, gives the extension of one."""
        return any(composed(value).endswith(self._paths[at].rpartition("/")[2]) for at in places)

    def path(self, at: int) -> str:
        return self._paths[at]

    def top(self, at: int) -> str:
        """The folder at the top in which an image lies, "" for none."""
        return self._paths[at].rpartition("/")[0].partition("/")[0]

    def count(self, top: str) -> int:
        """Images in a folder at the top."""
        return sum(self.top(at) == top for at in range(len(self._paths)))


def tables(listing: Listing, labels: str = "") -> list[Table]:
    """Tables at the top or in a folder there, of which one column names images; with `labels`, that one alone.

    Raises:
        PipelineError: a table is no CSV or JSON lines, or two of its columns name images; `labels` is not among them.
    """
    candidates = []
    for entry in listing.tables:
        parts = listing.parts(entry)
        if labels:
            meant = labels in ("/".join(parts), parts[-1])
        else:
            meant = len(parts) < 3 and _GUESSES not in parts[-1].lower()
        if meant and parts[-1].lower().endswith(TABLES):
            candidates.append(entry)
    index = _Index(listing) if candidates else None
    result = [table for entry in candidates if index for table in _table(listing, entry, index)]
    if labels and len(result) != 1:
        raise PipelineError(
            f"data.labels={labels} is no table that names images of {listing.path}; {_described(listing)}"
        )
    return result


def require_no_table(listing: Listing) -> None:
    """Raises PipelineError if there are tables, of which none labels images."""
    if any(entry.name.lower().endswith(TABLES) for entry in listing.tables):
        raise PipelineError(
            f"{listing.path} holds no class folders, and no table that names each of its images once; {_described(listing)}; "
            "name the image by its path or file name in one column, and its class in a column called label"
        )


def _described(listing: Listing) -> str:
    """The tables and their columns."""
    tables = [entry for entry in listing.tables if entry.name.lower().endswith(TABLES)][:TABLES_SHOWN]
    shown = []
    for entry in tables:
        titles = next(_rows(entry, listing.path), [])[:SHOWN]
        shown.append(f"{printable('/'.join(listing.parts(entry)), 60)} ({', '.join(printable(t, 40) for t in titles)})")
    return f"its tables and their columns are {', '.join(shown) or 'none'}"


def _table(listing: Listing, entry: Entry, index: _Index) -> Iterator[Table]:
    parts = listing.parts(entry)
    folder = "/".join(parts[:-1])
    part = role(Path(parts[-1]).stem) or role(folder)
    titles, *rows = list(_rows(entry, listing.path)) or [[]]
    named: dict[int, list[list[int]]] = {}  # by column, the images of each row
    ranks: dict[int, tuple[int, int]] = {}
    for column in range(len(titles)):
        values = [row[column] for row in rows]
        if len(set(values)) == len(values):  # a label that resembles an image's name occurs more than once
            named[column] = [index.find(value, folder, part or "train") for value in values]
            # Numbers of rows, as pandas writes them, may name images too, but without extensions.
            ranks[column] = sum(map(bool, named[column])), sum(map(index.in_full, values, named[column]))
    best = max(ranks, key=ranks.__getitem__, default=0)
    if len(titles) < 2 or not any(named.get(best, [])):
        return
    for other in ranks:
        pairs = zip(named[best], named[other], strict=True)
        # One that names fewer images, but more of them in full, may be meant as well.
        if ranks[other][::-1] >= ranks[best][::-1] and any(a and b and set(a).isdisjoint(b) for a, b in pairs):
            columns = " and ".join(f"{at + 1} ({printable(titles[at], 40)})" for at in (best, other))
            raise PipelineError(
                f"columns {columns} of {printable(entry.name)} in {listing.path} both name images, but not the same ones; remove the "
                "column that is not meant"
            )
    yield Table(entry, folder, part, titles, rows, best, index)


def _rows(entry: Entry, path: Path) -> Iterator[list[str]]:
    """The header and the rows, all of its length."""
    if entry.name.lower().endswith(".jsonl"):
        yield from _json_lines(entry, path)
        return
    try:
        text = entry.read().decode("utf-8-sig")
        first = text.partition("\n")[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
        length = 0
        for row in reader:
            if not row:
                continue
            length = length or len(row)
            if len(row) != length:
                raise PipelineError(
                    f"line {reader.line_num} of {printable(entry.name)} in {path} has {len(row)} values instead of {length}; "
                    "correct it"
                )
            yield [value.strip() for value in row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise PipelineError(
            f"{printable(entry.name)} in {path} is no CSV in UTF-8 ({printable(error)}); save it as one"
        ) from None


def _json_lines(entry: Entry, path: Path) -> Iterator[list[str]]:
    """The keys of the first line, then the values of each line as texts; a key that a line lacks is an empty text."""
    titles: list[str] = []
    for number, line in enumerate(entry.read().decode("utf-8-sig", "replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            row = error
        if not isinstance(row, dict):
            raise PipelineError(
                f"line {number} of {printable(entry.name)} in {path} is no JSON object ({printable(row)}); write one a line"
            )
        if not titles:
            titles = list(row)
            yield titles
        yield ["" if (value := row.get(title)) is None else str(value).strip() for title in titles]
