"""The layouts of a data set: which one a folder or archive has, and its records."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

from pipeline.data.archives import Container
from pipeline.data.classfolders import flat_folders, split_folders
from pipeline.data.hub import hub_tables
from pipeline.data.labeltable import labelled
from pipeline.data.listing import Listing, survey
from pipeline.data.records import Account, Published
from pipeline.data.roles import Labelled, assign, role
from pipeline.data.tables import require_no_table, tables
from pipeline.data.tinyimagenet import tiny_imagenet, val_annotations
from pipeline.errors import PipelineError, printable

NAMED = 5  # folders in an error


def read_layout(
    container: Container,
    temporary: Callable[[], IO[bytes]],
    layout: str = "auto",
    labels: str = "",
    num_test: int | None = 0,
) -> Published:
    """The records of the data set in a container.

    Args:
        temporary: makes a file for the images of `hub_tables`, which stays open as long as the container.
        layout: splits, classes, or auto, which recognises these and the others.
        labels: name of the CSV that holds the labels; "" to look for one.
        num_test: as in `assign`.
    Raises:
        PipelineError: no layout, or more than one, fits; as the layouts' readers and `assign`.
    """
    listing = survey(container)
    if labels:
        images, account = labelled(listing, tables(listing, labels))
    elif layout == "splits":
        images, account = split_folders(listing)
    elif layout == "classes":
        images, account = flat_folders(listing)
    elif annotated := val_annotations(listing):
        images, account = tiny_imagenet(listing, annotated)
    else:
        images, account = _recognised(listing, temporary)
    return assign(listing.path, images, num_test, account)


def _recognised(listing: Listing, temporary: Callable[[], IO[bytes]]) -> tuple[list[Labelled], Account]:
    own = [name for name in listing.top_folders() if not role(name)]
    beside = [name for name in listing.top_folders() if role(name)]
    trained = {parts[1] for parts in map(listing.parts, listing.images) if len(parts) > 2 and role(parts[0]) == "train"}
    # A single folder in train/ is no class if a table has the labels: train/train/1.jpg, as some archives unpack.
    labellings = tables(listing) if len(trained) < 2 else []
    if trained and not labellings:
        if own and len(beside) == 1:
            raise PipelineError(
                f"{listing.path} holds {_named(beside)} and {_named(own)} at its top; if all are classes, say so (override: "
                f"data.layout=classes), if {_named(beside)} is the training set, that (override: data.layout=splits)"
            )
        return split_folders(listing)
    if listing.columns and not labellings and len(own) < 2:
        return hub_tables(listing, temporary())
    # A folder of which a table names every image is no class, whatever lies beside it: train_images/, test_images/.
    if labellings and (len(own) < 2 or all(table.covers_a_folder() for table in labellings)):
        return labelled(listing, labellings)
    if labellings:
        table = printable("/".join(listing.parts(labellings[0].entry)), 60)
        raise PipelineError(
            f"{listing.path} holds the folders {_named(own)} and {table}, which names images; if the folders are classes, say "
            f"so (override: data.layout=classes), if the labels are in the table, that (override: data.labels={table})"
        )
    if own and beside:
        raise PipelineError(
            f"{listing.path} holds {_named(beside)} and {_named(own)} at its top; if all are classes, say so (override: "
            f"data.layout=classes), else move the class folders of the training set into train/"
        )
    if beside:
        return split_folders(listing)
    if len(own) < 2:
        require_no_table(listing)
    _require_no_inner_split(listing)
    return flat_folders(listing)


def _require_no_inner_split(listing: Listing) -> None:
    """Raises PipelineError for <class>/train/*, whose splits would all be trained on, and for two wrapping folders."""
    single = len(listing.top_folders()) == 1
    for entry in listing.images:
        parts = listing.parts(entry)
        if single and len(parts) > 2 and role(parts[1]):
            below = printable("/".join(entry.name.split("/")[: listing.wrapped + 1]), 60)
            raise PipelineError(
                f"{listing.path} holds its splits below {below}/; name that folder in data.path, or pack it without the folders "
                "around it"
            )
        if len(parts) > 2 and role(parts[1]):
            raise PipelineError(
                f"{printable(entry.name)} in {listing.path} lies in a split inside a class; arrange it as {parts[1]}/"
                f"{printable(parts[0], 60)}/*, or say that {parts[1]}/ is no split (override: data.layout=classes)"
            )


def _named(folders: list[str]) -> str:
    names = [f"{printable(name, 60)}/" for name in sorted(folders)[:NAMED]]
    return ", ".join(names) + (", ..." if len(folders) > NAMED else "")
