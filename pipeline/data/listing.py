"""What a folder or archive holds: images, tables and other files, without hidden files and without a wrapping folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import ANNOTATED, DataConfig
from pipeline.data.archives import DEPTH, Container, Entry, Visible, hidden
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
TABLES = (".csv", ".tsv", ".jsonl")
COLUMNS = (".arrow", ".parquet")
ANNOTATIONS = "val_annotations.txt"  # of Tiny ImageNet


def is_image(name: str) -> bool:
    return name.lower().endswith((*EXTENSIONS, *UNREAD))


def is_table(name: str) -> bool:
    return name.lower().endswith((*TABLES, ANNOTATIONS))


def visible(data: DataConfig) -> Visible:
    """Chooses the names at the top of a folder on disk that belong to the data set.

    Beside train/ with test/ or val/, other folders are of no account, whatever their size, unless the configuration says that
    these are classes or that a table has the labels.
    """

    def chosen(names: list[str]) -> list[str]:
        names = [name for name in names if not hidden([name])]
        splits = sorted((name for name in names if role(name)), key=lambda name: ROLES.index(role(name)))
        if (
            data.source in ANNOTATED
            or data.layout == "classes"
            or data.labels
            or not {"train"} < {role(name) for name in splits}
        ):
            return names
        return splits + [name for name in names if is_table(name)]

    return chosen


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
            parts = name.split("/")[self.wrapped :]
            if any(parts):
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

    def top_folders(self) -> set[str]:
        """Folders at the top that hold images."""
        return {parts[0] for parts in map(self.parts, self.images) if len(parts) > 1}


def survey(container: Container) -> Listing:
    """Reads the container's list once.

    Raises:
        PipelineError: as `Container.entries`.
    """
    listing = Listing(container.path)
    for entry in container.entries():
        parts = entry.name.split("/")
        if hidden(parts):
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
        if not hidden(name.split("/")):
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
    for entry in (*listing.images, *listing.tables):
        top, *inner = entry.name.split("/")
        tops.setdefault(top, set()).update(map(role, inner[:-1][:1]))
    if any(map(role, tops)):
        return ""
    split = [top for top, roles in tops.items() if "train" in roles]
    if not split and len(tops) == 1:
        # It is a class if it holds nothing but images.
        tabled = any(entry.name.count("/") == 1 for entry in listing.tables)
        split = [top for top, roles in tops.items() if roles or tabled]
    top = split[0] if len(split) == 1 else ""
    return "" if any(not entry.name.startswith(f"{top}/") for entry in listing.columns) else top
