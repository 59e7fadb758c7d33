"""Class folders: train/<class>/* for training; for testing test/<class>/*, or val/<class>/* if there is no test/.

In an archive the folders may lie below one top folder. Beside a test/, val/ is not read, since validation images come from
train/. Every other file is left out and counted; a class without an image is an error.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pipeline.data.archives import Container, Entry, Folder
from pipeline.data.records import Account, Published, Record, require_printed
from pipeline.errors import PipelineError, printable

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # Pillow's names
EXTENSIONS = (  # of FORMATS
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp"),
)
# Listed like images, so that decoding refuses them by name, and data.skip_corrupt leaves them out by name.
UNREAD = (
    *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpf", ".dng"),
    *(".cr2", ".cr3", ".nef", ".arw", ".tga", ".exr", ".psd", ".ico", ".svg"),
)
FOLDERS = ("train", "test", "val")
CLASSES_NAMED = 5  # in an error

Images = dict[str, list[tuple[str, Entry]]]  # train, test and val: class/file and its entry


def is_image(name: str) -> bool:
    return name.lower().endswith((*EXTENSIONS, *UNREAD))


def class_folders(container: Container) -> Published:
    """The records of train/ and of test/ or val/.

    Raises:
        PipelineError: another layout, a class of test/ that train/ lacks, or a class without an image.
    """
    images: Images = {folder: [] for folder in FOLDERS}
    others = Account()
    promised: dict[str, Counter[str]] = {folder: Counter() for folder in FOLDERS}  # classes, and their other files
    for entry in container.entries():
        parts = _parts(container, entry.name)
        if len(parts) >= 3 and is_image(parts[-1]):
            images[parts[0]].append(("/".join(parts[1:]), entry))
        elif parts:
            others.add(_kind(parts), entry.name)
            if len(parts) >= 3:
                promised[parts[0]][parts[1]] += 1
    for name in container.folders:
        parts = _parts(container, name)
        if len(parts) == 2:
            promised[parts[0]][parts[1]] += 0
    test = "test" if images["test"] else "val"
    for _, entry in images["val"] if test == "test" else ():
        others.add("images of val/ beside test/", entry.name)
    for folder, pattern in (("train", "train/<class>/*"), (test, "test/<class>/* or val/<class>/*")):
        if not images[folder]:
            raise PipelineError(
                f"{container.path} holds no images in {pattern}; arrange them like this and fetch again. Images end in "
                f"{', '.join(EXTENSIONS)}"
            )
        _require_images(container.path, folder, images[folder], promised[folder])
    classes = sorted({name.split("/")[0] for name, _ in images["train"]})
    labels = {name: label for label, name in enumerate(classes)}
    train, tested = (_labelled(container.path, images[folder], labels) for folder in ("train", test))
    return Published(classes, train, tested, others.left_out())


def _parts(container: Container, name: str) -> list[str]:
    """Parts of the name from train, test or val on; [] for a name elsewhere and for hidden files."""
    parts = name.split("/")
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return []
    if not isinstance(container, Folder) and parts[0] not in FOLDERS:
        parts = parts[1:]
    return parts if parts and parts[0] in FOLDERS else []


def _kind(parts: list[str]) -> str:
    if len(parts) < 3 and is_image(parts[-1]):
        return f"images beside the class folders of {parts[0]}/"
    ending = Path(parts[-1]).suffix.lower()
    return f"files that end in {printable(ending, 20)}" if ending else "files without an extension"


def _require_images(path: Path, folder: str, images: list[tuple[str, Entry]], promised: Counter[str]) -> None:
    """Raises PipelineError if a class that has a folder, or other files, has no image."""
    have = {name.split("/")[0] for name, _ in images}
    empty = sorted(promised.keys() - have)
    if empty:
        named = [f"{folder}/{printable(name, 60)}/ ({promised[name]} other files)" for name in empty[:CLASSES_NAMED]]
        raise PipelineError(
            f"{len(empty)} class folders in {path} hold no image: {', '.join(named)}"
            f"{', ...' if len(empty) > CLASSES_NAMED else ''}; remove them, or convert their files to {', '.join(FORMATS)}"
        )


def _labelled(path: Path, images: list[tuple[str, Entry]], labels: dict[str, int]) -> list[Record]:
    records = []
    for name, entry in images:
        folder = name.split("/")[0]
        if folder not in labels:
            require_printed(name, path)
            raise PipelineError(
                f"{printable(entry.name)} in {path} is of class {printable(folder)}, which train/ does not have; remove it, or "
                "add training images of that class"
            )
        records.append(Record(name, labels[folder], entry))
    return records
