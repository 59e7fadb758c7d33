"""A table of labels beside images, as on Kaggle: one column names the image, one the label, perhaps one the split.

The image's column is the one whose values name images, whatever its title; the extension may be omitted. In place of the label's
column, each class may have one, with a single 1 in a row. A table is a CSV, or JSON lines as in Hugging Face's metadata.jsonl.
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
from pipeline.data.records import Account, composed
from pipeline.data.roles import ROLES, Labelled, role
from pipeline.errors import PipelineError, printable

_LABEL = "label"  # the title that always means the label
_LABELS = ("labels", "class", "class_name", "category", "target", "breed", "species", "diagnosis")
_SPLITS = ("split", "subset", "set", "data set", "data_set")
_ON, _OFF = ("1", "1.0"), ("0", "0.0")  # in the columns of classes
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


def labelled(listing: Listing, labellings: list[Table]) -> tuple[list[Labelled], Account]:
    """The images that tables label, and the files left out.

    Args:
        labellings: one table; or one of each role, of which those without the training table's label columns label nothing.
    Raises:
        PipelineError: several tables could be meant, the label's column is unclear, a row names no image or several, an
            image has no label or two.
    """
    by_role = {table.role: table for table in labellings}
    if len(labellings) > 1 and (len(by_role) < len(labellings) or "train" not in by_role or "" in by_role):
        one, other = (printable("/".join(listing.parts(table.entry)), 60) for table in labellings[:2])
        raise PipelineError(
            f"{listing.path} holds {len(labellings)} tables that name images, {one} and {other} among them; say which one has the "
            f"labels (override: data.labels={one} or data.labels={other})"
        )
    first = by_role.get("train", labellings[0])
    titles = [first.titles[column] for column in _label_columns(first)]
    images: dict[int, Labelled] = {}
    for table in labellings:
        if set(titles) <= set(table.titles):
            _take(listing, table, [table.titles.index(title) for title in titles], images)
    account = listing.account([table.entry for table in labellings])
    for at, entry in enumerate(listing.images):
        if at not in images:
            account.add("images without a label", entry.name)
    return [images[at] for at in sorted(images)], account


def _take(listing: Listing, table: Table, label: list[int], images: dict[int, Labelled]) -> None:
    """Adds the images of a table to `images`, by their place in the listing.

    Args:
        label: the label's column, or one of each class.
    """
    split = _split(table)
    for row in table.rows:
        value, cls = row[table.images], _class(table, row, label)
        part = role(row[split]) if split is not None else table.role
        places = table.places.find(value, table.folder, part or "train")
        if len(places) != 1:
            what = f"{len(places)} images" if places else "no image"
            raise PipelineError(
                f"{printable(value)} of {table.name} names {what} of {listing.path}; "
                f"{'write its path' if places else 'add the image, or remove the row'}"
            )
        at = places[0]
        path = table.places.path(at)
        if not cls or at in images:
            raise PipelineError(
                f"{printable(path)} has {'two labels' if at in images else 'no label'} in the tables of {listing.path}; "
                "give each image one label"
            )
        part = part or role(path.split("/")[0]) or "train"
        images[at] = Labelled(part, cls, f"{cls}/{path}", listing.images[at])


def _split(table: Table) -> int | None:
    """The column that names the split of each image.

    Raises:
        PipelineError: a row names none.
    """
    for column, title in enumerate(table.titles):
        if title.casefold() in _SPLITS and any(role(row[column]) for row in table.rows):
            for row in table.rows:
                if not role(row[column]):
                    raise PipelineError(
                        f"{printable(row[table.images])} of {table.name} has {printable(title)}={printable(row[column])}; write one of "
                        f"{', '.join(ROLES)}, or remove the row"
                    )
            return column
    return None


def _class(table: Table, row: list[str], label: list[int]) -> str:
    """The class of a row, "" for none. See `_take`."""
    if len(label) == 1:
        return row[label[0]]
    return next((table.titles[column] for column in label if row[column] in _ON), "")


def _label_columns(table: Table) -> list[int]:
    """The column of the label; or of each class one, with a single 1 in a row.

    Raises:
        PipelineError: several could be meant, or none.
    """
    others = [at for at, title in enumerate(table.titles) if title and at not in (table.images, _split(table))]
    if (column := label_column(table.titles, others)) is not None:
        return [column]
    if table.rows and all({row[at] for at in others} <= {*_ON, *_OFF} for row in table.rows):
        for row in table.rows:
            if sum(row[at] in _ON for at in others) != 1:
                raise PipelineError(
                    f"{printable(row[table.images])} of {table.name}, which has a column for each class, is not of exactly one; "
                    "each image needs one class"
                )
        return others
    titles = ", ".join(printable(title, 40) for title in table.titles[:SHOWN])
    raise PipelineError(
        f"{table.name} has the columns {titles}, of which several could be the label; call the one that is meant {_LABEL}, or "
        "write a column for each class with a single 1 in a row"
    )


def label_column(titles: list[str], candidates: list[int]) -> int | None:
    """The one of the candidate columns that is called label, else like one, else the only one; None if there are several."""
    exact = [at for at in candidates if titles[at].casefold() == _LABEL]
    usual = [at for at in candidates if titles[at].casefold() in _LABELS]
    choice = exact or usual or candidates
    return choice[0] if len(choice) == 1 else None
