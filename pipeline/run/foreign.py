"""Files of weights that others made. A file is an attacker's until it is read: it runs no code, claims no memory that it does
not fill, and gives finite numbers by name."""

from __future__ import annotations

import errno
import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import MissingError, PipelineError, first_line, printable
from pipeline.learn.models.mapping import COUNTER, state_in

MOST_NAMES, LONGEST_NAME = 100_000, 500
MOST_HEADER = 16 << 20  # bytes of a safetensors file's header; ResNet-1202's takes 1 % of it
MOST_SHARING = 4  # names that may share one weight, as tied layers do
_CODE = re.compile(r"(?:GLOBAL|class|global) ([\w.]+)")  # in torch's refusals
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
REMEDY = "save the net's state_dict() with torch.save, or convert it to safetensors"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights by name from a file of torch.save or safetensors; never runs code that the file holds.

    Raises:
        MissingError: no such file.
        PipelineError: the file cannot be read that way, or holds anything else than finite weights by name.
    """
    _require_a_file(path)
    with _named(path):
        state = {str(name): value for name, value in state_in(_loaded(path)).items()}
        for name, tensor in state.items():
            _check_form(name, tensor)
        size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
        if len(state) > MOST_NAMES or size > MOST_SHARING * path.stat().st_size:
            raise PipelineError(
                f"it claims {len(state):,} weights of {size:,} bytes, which the file cannot hold; {REMEDY}"
            )
        # Copies, since the file may change while it is mapped.
        state = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
        for name, tensor in state.items():
            if not torch.isfinite(tensor.float()).all():
                raise PipelineError(
                    f"{name} holds numbers that are not finite (NaN or infinity); take weights from before they diverged"
                )
        return state


def header_of(path: Path, key: str) -> str | None:
    """A text of a safetensors file's header; None for other files, and for a file without it."""
    from safetensors import safe_open

    if not _is_safetensors(path):
        return None
    with _named(path), safe_open(path, "pt") as stream:
        return (stream.metadata() or {}).get(key)


def _require_a_file(path: Path) -> None:
    if not path.exists():
        raise MissingError(f"{printable(path)}: no such file")
    if not path.is_file():
        raise PipelineError(
            f"{printable(path)} is {'a folder' if path.is_dir() else 'no regular file'}; name a file of weights"
        )
    if path.stat().st_size == 0:
        raise PipelineError(f"{printable(path)} is empty; copy or download it again")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns whatever a reader raises into a sentence about the file: what a broken one causes cannot be listed."""
    title = printable(path)
    try:
        yield
    except PipelineError as error:
        raise PipelineError(f"{title}: {error}") from None
    except pickle.UnpicklingError as error:
        if match := _CODE.search(str(error)):
            raise PipelineError(
                f"{title} cannot be read without running code of its own ({printable(match[1])}); {REMEDY}"
            ) from None
        raise PipelineError(f"{title} cannot be read as weights; {REMEDY}") from None
    except Exception as error:
        if isinstance(error, MemoryError | PermissionError) or getattr(error, "errno", 0) == errno.EIO:
            raise  # the machine's fault, not the file's
        raise PipelineError(f"{title} cannot be read as weights ({first_line(error)}); {REMEDY}") from None


def _loaded(path: Path) -> Any:
    if _is_safetensors(path):
        from safetensors.torch import load_file

        return load_file(path)
    with path.open("rb") as stream:
        zipped = stream.read(4) == b"PK\x03\x04"  # as torch tells its formats apart
    if zipped:
        _check_archive(path)
    # A mapped file gives no more bytes than it has, however many a pickle claims; without, torch reads beyond its memory.
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def _check_archive(path: Path) -> None:
    """Torch stores entries as they are; anything else could unpack to more than the file holds."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = {entry.filename for entry in entries}
        if any(name.endswith("/constants.pkl") for name in names):
            raise PipelineError(f"it is a TorchScript program; {REMEDY}")
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or len(names) < len(entries) or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise PipelineError(f"its entries are not as torch.save writes them; {REMEDY}")
        if broken := archive.testzip():
            raise PipelineError(f"its entry {printable(broken)} is damaged; copy or download it again")


def _check_form(name: str, tensor: Tensor) -> None:
    title = printable(name)
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise PipelineError(f"a weight is called {title}; names must print and have at most {LONGEST_NAME} characters")
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or not (tensor.dtype in FLOATS or name.endswith(COUNTER)):
        kind = f"{tensor.dtype}".removeprefix("torch.")
        raise PipelineError(
            f"{title} is of kind {kind}, {tensor.layout}, on {tensor.device}; a weight is a plain tensor of floats"
        )
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise PipelineError(f"{title} of shape {tuple(tensor.shape)} claims more numbers than the file holds; {REMEDY}")


def _is_safetensors(path: Path) -> bool:
    """Whether the file starts as safetensors do: 8 bytes of the header's length, then its JSON.

    Raises:
        PipelineError: a header too large for any net.
    """
    with path.open("rb") as stream:
        start = stream.read(9)
    if start[8:] != b"{":
        return False
    if int.from_bytes(start[:8], "little") > MOST_HEADER:
        raise PipelineError(f"it claims a header of more than {MOST_HEADER >> 20} MiB; {REMEDY}")
    return True
