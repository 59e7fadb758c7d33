"""Tiny ImageNet: train/<wnid>/images/*, val/images/* with val/val_annotations.txt, and test/images/* without labels."""

from __future__ import annotations

from pipeline.data.archives import Entry
from pipeline.data.listing import ANNOTATIONS, Listing
from pipeline.data.records import Account, composed
from pipeline.data.roles import Labelled, role
from pipeline.errors import PipelineError, printable


def val_annotations(listing: Listing) -> Entry | None:
    """The file with the labels of val/, where there is one."""
    for entry in listing.tables:
        parts = listing.parts(entry)
        if len(parts) == 2 and role(parts[0]) == "val" and parts[1] == ANNOTATIONS:
            return entry
    return None


def tiny_imagenet(listing: Listing, annotated: Entry) -> tuple[list[Labelled], Account]:
    """The images of train/ and val/, and the files left out.

    Args:
        annotated: `val_annotations`.
    Raises:
        PipelineError: a line of the annotations has no label, or an image of val/ no line.
    """
    labels: dict[str, str] = {}
    for line in annotated.read().decode("utf-8", "replace").split("\n"):
        file, _, rest = line.partition("\t")
        labels[composed(file)] = rest.partition("\t")[0].strip()
    images: list[Labelled] = []
    account = listing.account([annotated])
    for entry in listing.images:
        parts = listing.parts(entry)
        part = role(parts[0])
        if part == "train" and len(parts) > 2:
            images.append(Labelled(part, parts[1], "/".join(parts[1:]), entry))
        elif part == "val":
            if not (cls := labels.get(composed(parts[-1]))):
                raise PipelineError(
                    f"{printable(entry.name)} in {listing.path} has no label in {ANNOTATIONS}; add its line, or remove it"
                )
            images.append(Labelled(part, cls, f"{cls}/{parts[-1]}", entry))
        else:
            account.add("images without a label", entry.name)
    return images, account
