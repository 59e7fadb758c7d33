"""What a trained net says of a set of images, computed once: probabilities are kept beside the runs.

N images, K classes.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.atomic import replacing, sha256
from pipeline.config import AugmentConfig
from pipeline.data.batches import ArrayBatches, ShardBatches, batches_of
from pipeline.data.loader import EvalLoader
from pipeline.data.store import ArrayRecords, ShardRecords, Store
from pipeline.ensemble.forward import class_probabilities, ready
from pipeline.models import build_model, net_name
from pipeline.progress import progress
from pipeline.training.checkpoint import load_weights
from pipeline.training.key import code_version

FOLDER = "predictions"  # below paths.runs
LATER = {"pca_std": 0.0}  # keys that weights may have been saved without; they change no test image
BATCH = 250  # images a forward pass; more of them do not stay in a CPU's cache from layer to layer
_ROOT = Path(__file__).resolve().parents[1]
# Beside the training code, what decides the probabilities: how images are read and what is asked of the net.
_CODE = ("data/shards.py", "data/store.py", "ensemble/forward.py", "ensemble/predictions.py", "training/checkpoint.py")


@dataclass(frozen=True)
class Images:
    """Some images of a store, in the order of `indices`."""

    which: Literal["val", "test"]
    store: Store  # for its statistics and its manifest
    records: ArrayRecords | ShardRecords
    indices: NDArray[np.int64]  # (N,) into records

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) true classes."""
        return np.asarray(self.records.labels[self.indices])

    def batches(self, metadata: dict[str, Any], workers: int = 1) -> ArrayBatches | ShardBatches:
        """Batches as the net of `metadata` was validated on: its crop, its statistics."""
        statistics = self.store.statistics(metadata["split"])
        augment = AugmentConfig(**{**LATER, **metadata["augment"]})
        return batches_of(self.records, statistics, augment, metadata["normalize"], workers)


def validation_images(store: Store) -> Images:
    """The images held out of training, which members are chosen on."""
    return Images("val", store, store.train(), store.split_indices("holdout")[1])


def all_images(which: Literal["val", "test"], store: Store, records: ArrayRecords | ShardRecords) -> Images:
    """Every image of `records`, in the store's order."""
    return Images(which, store, records, np.arange(len(records)))


def probabilities(
    weights: Path, images: Images, cache: Path, device: torch.device, workers: int = 0
) -> NDArray[np.float32]:
    """(N, K) class probabilities of one net, read-only and memory-mapped; softmax and net in float32.

    The net sees each image once, as in its own validation: the whole image (Sec. 4.2) or the centre crop.

    Args:
        weights: what training wrote; the header says which net it is and how its images were normalised.
        cache: folder of results; one that is there is not computed again.
        workers: threads that decode JPEGs; 0 for one per CPU core.
    Raises:
        ValueError: weights of another data set, or not written by this project.
    """
    checkpoint = sha256(weights)
    found = kept(checkpoint, images, cache)
    if found is None:
        keep(checkpoint, images, cache, _forward(weights, images, device, workers or os.cpu_count() or 1))
        found = kept(checkpoint, images, cache)
        assert found is not None
    return found


def kept(checkpoint: str, images: Images, cache: Path) -> NDArray[np.float32] | None:
    """What `probabilities` computed earlier for the weights of this sha256, which need not be here; else None."""
    path = cache / _name(checkpoint, images)
    return np.load(path, mmap_mode="r") if path.exists() else None


def keep(checkpoint: str, images: Images, cache: Path, computed: NDArray[np.float32]) -> None:
    """Puts (N, K) probabilities where `kept` finds them."""
    with replacing(cache / _name(checkpoint, images)) as part, part.open("wb") as stream:
        np.save(stream, computed)


def named(model: dict[str, Any]) -> str:
    """Name of the net that these arguments of `build_model` make."""
    return net_name(*(model[part] for part in ("family", "depth", "residual", "shortcut", "stride_on")))


def count_params(model: dict[str, Any]) -> int:
    """Learnt numbers of the net that these arguments of `build_model` make; no memory is taken."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(**model).parameters())


def _name(checkpoint: str, images: Images) -> str:
    """Of all that decides the result: the weights, the images, the code."""
    data = images.store.manifest.content_hash
    return f"{checkpoint[:16]}-{data[:16]}-{images.which}-{_code()}.npy"


def _code() -> str:
    """Hash of the code; a changed comment costs a forward pass, which is cheap."""
    sources = [(_ROOT / name).read_bytes() for name in _CODE]
    return hashlib.sha256(b"".join([code_version().encode(), *sources])).hexdigest()[:12]


def load_net(weights: Path, content_hash: str) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A trained net in evaluation mode, and its checkpoint's metadata.

    Raises:
        ValueError: trained on other images than those of `content_hash`, or not written by this project.
    """
    state, metadata = load_weights(weights)
    if metadata["data"] != content_hash:
        raise ValueError(
            f"{weights} was trained on data {metadata['data'][:12]}, the store holds {content_hash[:12]}; "
            "train it again on the present store"
        )
    with torch.device("meta"):  # no memory, no random numbers: the file has the weights
        net = build_model(**metadata["model"])
    net.load_state_dict(state, assign=True)
    return net.eval(), metadata


def _forward(weights: Path, images: Images, device: torch.device, workers: int) -> NDArray[np.float32]:
    net, metadata = load_net(weights, images.store.manifest.content_hash)
    net = ready(net, device)
    batches = images.batches(metadata, workers)
    said: list[Tensor] = []
    title, count = f"{images.which} images, {named(metadata['model'])} {metadata['key']}", len(images.indices)
    with progress(title, count, "images") as shown:
        for fetched in EvalLoader(images.indices, BATCH, batches.fetch, ahead=batches.ahead):
            inputs, _ = batches.finish(tuple(part.to(device) for part in fetched))
            said.append(class_probabilities(net, inputs))  # stays where it is: fetching it would make a GPU wait
            shown.advance(len(inputs))
        found = torch.cat(said).cpu().numpy()
    assert len(found) == count
    return found
