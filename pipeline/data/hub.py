"""Data sets of Hugging Face's `datasets`: Arrow files as save_to_disk writes them, Parquet files as on the Hub.

Such files give rows in batches, and not one by one in any order, so the images are copied once into a temporary file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipeline.config import LimitsConfig
from pipeline.data.archives import Container, Entry, Folder
from pipeline.data.labeltable import label_column
from pipeline.data.listing import Listing
from pipeline.data.records import Account
from pipeline.data.roles import Labelled, role
from pipeline.errors import PipelineError, printable

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 64  # read at once
_WRITTEN = re.compile(r"(data-\d+-of-\d+|dataset)\.arrow")  # beside caches of `datasets`, which are no data


class Copied(Container):
    """Images in a temporary file, one after the other."""

    def __init__(self, path: Path, limits: LimitsConfig, file: IO[bytes]) -> None:
        super().__init__(path, limits)
        self._file, self._entries = file, 0

    def listed(self) -> Iterator[Entry]:
        return iter(())

    def append(self, name: str, image: bytes) -> Entry:
        """Copies an image. Raises PipelineError if it goes beyond data.limits."""
        self._entries += 1
        self.require_entries(self._entries)
        entry = Entry(self, name, self._file.tell(), len(image))
        self.require_total(entry.place + entry.size)
        self._file.write(image)
        return entry

    def flush(self) -> None:
        self._file.flush()

    def read(self, entry: Entry) -> bytes:
        return os.pread(self._file.fileno(), entry.size, entry.place)


def hub_tables(listing: Listing, temporary: IO[bytes]) -> tuple[list[Labelled], Account]:
    """The images of the files' rows, by the split in the file's or the folder's name, and what is left out.

    Args:
        temporary: takes the images' bytes; they are read from it.
    Raises:
        PipelineError: a file lies in an archive or is damaged; its columns of image and label are unclear; a row holds no image.
    """
    files = [entry for entry in listing.columns if entry.name.endswith(".parquet") or _WRITTEN.search(entry.name)]
    roles = [_role(listing.parts(entry)) for entry in files]
    account = listing.account(files)
    if not any(roles):  # save_to_disk of a data set without splits
        roles = ["train"] * len(files)
    images: list[Labelled] = []
    copied: Copied | None = None
    for entry, part in zip(files, roles, strict=True):
        if not part:
            account.add("files of other splits", entry.name)
            continue
        if not isinstance(entry.container, Folder):
            raise PipelineError(
                f"{printable(entry.name)} is packed in {listing.path}; unpack that, and give the folder"
            )
        copied = copied or Copied(listing.path, entry.container.limits, temporary)
        for row, (image, cls) in enumerate(_rows(entry, listing.path)):
            name = f"{'/'.join(listing.parts(entry))}/{row:06d}"
            if cls:
                images.append(Labelled(part, cls, f"{cls}/{name}", copied.append(f"{entry.name}, row {row}", image)))
            else:
                account.add("images without a label", f"{entry.name}, row {row}")
    if copied:
        copied.flush()
    return images, account


def _role(parts: list[str]) -> str:
    """The split in a name such as data/train-00000-of-00001.parquet, train/0000.parquet or train/data-00000-of-00001.arrow."""
    return role(re.split(r"[-.]", parts[-1])[0]) or role("".join(parts[-2:-1]))


def _rows(entry: Entry, path: Path) -> Iterator[tuple[bytes, str]]:
    """The encoded image and the class of each row, "" for none."""
    with _naming(entry, path):
        schema, batches = _opened(entry)
        image, label, names = _columns(schema, entry)
        for batch in batches([image, label]):
            batch.validate(full=True)  # of a damaged file, before its offsets are followed
            for value, number in zip(batch.column(image).to_pylist(), batch.column(label).to_pylist(), strict=True):
                encoded = value.get("bytes") if isinstance(value, dict) else value
                if not encoded:
                    raise PipelineError(
                        f"{printable(entry.name)} in {path} has a row without the bytes of an image; save the data set with them "
                        "(Dataset.save_to_disk puts them into its files)"
                    )
                yield encoded, _class(number, names)


def _class(label: Any, names: list[str]) -> str:
    if isinstance(label, str):
        return label.strip()
    if label is None or label < 0:  # as `datasets` marks test images without labels
        return ""
    if names and label >= len(names):
        raise ValueError(f"a label {label} with {len(names)} classes")  # `_naming` names the file
    return names[label] if names else str(label)


def _opened(entry: Entry) -> tuple[pa.Schema, Callable[[list[str]], Iterator[pa.RecordBatch]]]:
    """The file's schema, and a function from names of columns to batches of at most ROWS rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = str(entry.container.path / entry.name)
    if entry.name.endswith(".parquet"):
        parquet = pq.ParquetFile(file)
        groups = [parquet.metadata.row_group(at) for at in range(parquet.metadata.num_row_groups)]
        unpacked = sum(group.total_byte_size for group in groups)
        entry.container.require_ratio(unpacked, entry.size)
        return parquet.schema_arrow, lambda columns: parquet.iter_batches(ROWS, columns=columns)
    reader = pa.ipc.open_stream(pa.memory_map(file))
    return reader.schema, lambda columns: (
        batch.select(columns).slice(at, ROWS) for batch in reader for at in range(0, batch.num_rows, ROWS)
    )


def _columns(schema: pa.Schema, entry: Entry) -> tuple[str, str, list[str]]:
    """The columns of image and label, and the classes' names."""
    import pyarrow.types as types

    def is_image(kind: pa.DataType) -> bool:
        return (
            types.is_binary(kind)
            or types.is_large_binary(kind)
            or (types.is_struct(kind) and kind.get_field_index("bytes") >= 0)
        )

    def is_label(kind: pa.DataType) -> bool:
        if types.is_dictionary(kind):  # as pandas writes its categories
            return is_label(kind.value_type)
        return types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)

    images = [name for name in schema.names if is_image(schema.field(name).type)]
    image = "image" if "image" in images else images[0] if len(images) == 1 else ""
    label = label_column(schema.names, [at for at, kind in enumerate(schema.types) if is_label(kind)])
    if not image or label is None:
        titles = ", ".join(printable(name, 40) for name in schema.names[:20])
        raise PipelineError(
            f"{printable(entry.name)} in {entry.container.path} has the columns {titles}, of which none or several could be the "
            "image or the label; call them image and label (Dataset.rename_column)"
        )
    return image, schema.names[label], _names(schema, schema.names[label])


def _names(schema: pa.Schema, label: str) -> list[str]:
    """Names of the classes, which `datasets` writes beside the columns; [] if it did not."""
    value: Any = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    for key in ("info", "features", label, "names"):
        value = value.get(key) if isinstance(value, dict) else None
    return list(map(str, value)) if isinstance(value, list) else []


@contextmanager
def _naming(entry: Entry, path: Path) -> Iterator[None]:
    """Turns pyarrow's errors on damage, which are of many kinds, into a PipelineError that names the file."""
    import pyarrow as pa

    try:
        yield
    except PipelineError:
        raise
    except (pa.ArrowException, ValueError, OSError, RecursionError) as error:
        if getattr(error, "errno", None):
            raise
        raise PipelineError(
            f"{printable(entry.name)} in {path} is damaged or no such file as `datasets` writes ({printable(error)}); save or "
            "download it again"
        ) from None
