"""A table of labels beside images, as on Kaggle: one column names the image, one the label, perhaps one the split.

In place of the label's column, each class may have one, with a single 1 in a row.
"""

from __future__ import annotations

from pipeline.data.listing import Listing
from pipeline.data.records import Account
from pipeline.data.roles import ROLES, Labelled, role
from pipeline.data.tables import SHOWN, Table
from pipeline.errors import PipelineError, printable

_LABEL = "label"  # the title that always means the label
_LABELS = ("labels", "class", "class_name", "category", "target", "breed", "species", "diagnosis")
_SPLITS = ("split", "subset", "set", "data set", "data_set")
_ON, _OFF = ("1", "1.0"), ("0", "0.0")  # in the columns of classes


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
