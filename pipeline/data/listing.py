"""What a folder or archive holds: images, tables and other files, without hidden files and without a wrapping folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.archives import DEPTH, Container, Entry
from pipeline.data.records import Account
from pipeline.data.roles import ROLES, role
from pipeline.errors import printable

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "AVIF")  # Pillow's names
EXTENSIONS = (  # of FORMATS
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp", ".avif"),
)
# Listed like images, so that decoding refuses them by name, and data.skip_corrupt leaves them out by name.
UNREAD = (
    *(".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".jpf", ".dng"),
    *(".cr2", ".cr3", ".nef", ".arw", ".tga", ".exr", ".psd", ".ico", ".svg"),
)
TABLES = (".csv", ".tsv")
COLUMNS = (".arrow", ".parquet")
ANNOTATIONS = "val_annotations.txt"  # of Tiny ImageNet


def is_image(name: str) -> bool:
    return name.lower().endswith((*EXTENSIONS, *UNREAD))


def is_table(name: str) -> bool:
    return name.lower().endswith((*TABLES, ANNOTATIONS))


def visible(names: list[str]) -> list[str]:
    """Those of the names at the top of a folder on disk that belong to the data set.

    Beside train/ with test/ or val/, other folders are of no account, whatever their size.
    """
    names = [name for name in names if not _hidden([name])]
    splits = sorted((name for name in names if role(name)), key=lambda name: ROLES.index(role(name)))
    if {"train"} < {role(name) for name in splits}:
        return splits + [name for name in names if is_table(name)]
    return names


@dataclass
class Listing:
    """The entries of a container, by kind. Names have parts, from the top of the data set on."""

    path: Path
    images: list[Entry] = field(default_factory=list)
    tables: list[Entry] = field(default_factory=list)  # that may hold labels
    columns: list[Entry] = field(default_factory=list)  # Arrow and Parquet files, which may hold images
    wrapped: int = 0  # parts of the folder around the data set
    _others: dict[int, Account] = field(default_factory=lambda: {depth: Account() for depth in range(1, DEPTH + 1)})
    _beside: Counter[str] = field(default_factory=Counter)  # folders, at most DEPTH deep, and their other files

    def parts(self, entry: Entry) -> list[str]:
        return entry.name.split("/")[self.wrapped :]

    def folders(self) -> Iterator[tuple[list[str], int]]:
        """Parts of each folder and the number of files in it, or below DEPTH, that are neither images nor tables."""
        for name, number in self._beside.items():
            if parts := name.split("/")[self.wrapped :]:
                yield parts, number

    def account(self, read: Sequence[Entry] = ()) -> Account:
        """Of the tables but `read`, and of other files in folders; a layout adds the images that it leaves out."""
        account = Account()
        for entry in (*self.tables, *self.columns):
            if entry not in read:
                account.add(kind(entry.name), entry.name)
        for depth, others in self._others.items():
            if depth > self.wrapped + 1:
                account.take(others)
        return account

    def top_folders(self) -> dict[str, list[int]]:
        """Folders at the top that hold images: how many images lie in each itself, and how many in folders below."""
        tops: dict[str, list[int]] = {}
        for entry in self.images:
            parts = self.parts(entry)
            if len(parts) > 1:
                tops.setdefault(parts[0], [0, 0])[len(parts) > 2] += 1
        return tops


def survey(container: Container) -> Listing:
    """Reads the container's list once.

    Raises:
        PipelineError: as `Container.entries`.
    """
    listing = Listing(container.path)
    for entry in container.entries():
        parts = entry.name.split("/")
        if _hidden(parts):
            continue
        if is_image(parts[-1]):
            listing.images.append(entry)
        elif is_table(parts[-1]):
            listing.tables.append(entry)
        elif parts[-1].endswith(COLUMNS):
            listing.columns.append(entry)
        else:
            listing._others[min(len(parts), DEPTH)].add(kind(parts[-1]), entry.name)
            listing._beside["/".join(parts[:-1][:DEPTH])] += 1
    for name in container.folders:
        if not _hidden(name.split("/")):
            listing._beside[name] += 0
    if top := _wrapping(listing):
        listing.wrapped = 1
        outside = [entry for entry in listing.images if not entry.name.startswith(f"{top}/")]
        for entry in outside:
            listing._others[DEPTH].add(f"images outside {printable(top, 60)}/", entry.name)
        for entries in (listing.images, listing.tables, listing.columns):
            entries[:] = [entry for entry in entries if entry.name.startswith(f"{top}/")]
        listing._beside = Counter({name: n for name, n in listing._beside.items() if name.startswith(f"{top}/")})
    return listing


def kind(name: str) -> str:
    """The kind of a file that is left out, in words."""
    ending = Path(name).suffix.lower()
    return f"files that end in {printable(ending, 20)}" if ending else "files without an extension"


def _wrapping(listing: Listing) -> str:
    """The folder around the data set, "" if there is none. Other folders may lie beside it if train/ is in it alone."""
    tops: dict[str, set[str]] = {}
    depths = {False: [DEPTH], True: [DEPTH]}
    for table, entries in enumerate((listing.images, listing.tables)):
        for entry in entries:
            parts = entry.name.split("/")
            tops.setdefault(parts[0], set()).update(map(role, parts[1:-1][:1]))
            depths[bool(table)].append(len(parts))
    if any(map(role, tops)):
        return ""
    split = [top for top, roles in tops.items() if "train" in roles]
    # Images in the only folder itself make it a class, unless a table in it has their labels.
    labelled = min(depths[True]) == 2 <= min(depths[False])
    if not split and len(tops) == 1 and (labelled or min(depths[False]) > 2):
        split = list(tops)
    return split[0] if len(split) == 1 else ""


def _hidden(parts: list[str]) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)
