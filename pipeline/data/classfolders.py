"""Class folders: train/<class>/*, test/<class>/* and val/<class>/*, or <class>/* without splits.

A split has one of the names of `roles`. Images may lie deeper than the class folder. Every other file is left out and
counted; a class folder without an image is an error.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pipeline.data.listing import EXTENSIONS, FORMATS, Listing
from pipeline.data.records import Account
from pipeline.data.roles import ROLES, Labelled, role
from pipeline.errors import PipelineError, printable

NAMED = 5  # class folders in an error


def split_folders(listing: Listing) -> tuple[list[Labelled], Account]:
    """The images of the splits' class folders, and the files left out.

    Raises:
        PipelineError: two folders of one role, no image in train/<class>/, or a class folder without an image.
    """
    images: list[Labelled] = []
    account = listing.account()
    spelled: dict[str, str] = {}  # folders that hold images, by role
    for entry in listing.images:
        parts = listing.parts(entry)
        part = role(parts[0])
        if len(parts) < 2 or not part:
            account.add("images outside train/, test/ and val/", entry.name)
        elif len(parts) == 2:
            account.add(f"images beside the class folders of {parts[0]}/", entry.name)
        else:
            images.append(Labelled(part, parts[1], "/".join(parts[1:]), entry))
            if (other := spelled.setdefault(part, parts[0])) != parts[0]:
                raise PipelineError(
                    f"{listing.path} holds both {other}/ and {parts[0]}/; merge them, or remove the one that is not meant"
                )
    if "train" not in spelled:
        raise PipelineError(
            f"{listing.path} holds no images in train/<class>/*; arrange them like this and fetch again. Images end in "
            f"{', '.join(EXTENSIONS)}"
        )
    if len({image.cls for image in images if image.role == "train"}) == 1:
        return images, account  # which `assign` refuses: images/ beside labels/ are no classes
    promised: dict[str, Counter[str]] = {name: Counter() for name in ROLES}
    for parts, number in listing.folders():
        if len(parts) > 1 and spelled.get(role(parts[0])) == parts[0]:
            promised[role(parts[0])][parts[1]] += number
    for part, folder in spelled.items():
        have = {image.cls for image in images if image.role == part}
        _require_images(listing.path, f"{folder}/", have, promised[part])
    return images, account


def flat_folders(listing: Listing) -> tuple[list[Labelled], Account]:
    """The images of class folders at the top, all in train, and the files left out.

    Raises:
        PipelineError: less than two class folders, or one without an image.
    """
    images: list[Labelled] = []
    account = listing.account()
    for entry in listing.images:
        parts = listing.parts(entry)
        if len(parts) > 1:
            images.append(Labelled("train", parts[0], "/".join(parts), entry))
        else:
            account.add("images beside the class folders", entry.name)
    have = {image.cls for image in images}
    if len(have) < 2:
        raise PipelineError(
            f"{listing.path} holds {len(have)} class folders with images; arrange images of each class as <class>/* or "
            "train/<class>/*, or add a CSV of labels, and fetch again"
        )
    promised: Counter[str] = Counter()
    for parts, number in listing.folders():
        promised[parts[0]] += number
    _require_images(listing.path, "", have, promised)
    return images, account


def _require_images(path: Path, folder: str, have: set[str], promised: Counter[str]) -> None:
    """Raises PipelineError if a class that has a folder, or other files, has no image."""
    empty = sorted(promised.keys() - have)
    if empty:
        named = [f"{folder}{printable(name, 60)}/ ({promised[name]} other files)" for name in empty[:NAMED]]
        raise PipelineError(
            f"{len(empty)} class folders in {path} hold no image: {', '.join(named)}"
            f"{', ...' if len(empty) > NAMED else ''}; remove them, or convert their files to {', '.join(FORMATS)}"
        )
