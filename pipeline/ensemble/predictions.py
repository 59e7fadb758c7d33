"""What a trained net says of a set of images, computed once: probabilities are kept beside the runs.

N images, K classes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.atomic import replacing, sha256
from pipeline.config import NO_GLOBAL_POOL, EvaluationConfig
from pipeline.data.store import ArrayRecords, ShardRecords, Store
from pipeline.ensemble.forward import average_statistics, class_probabilities, ready
from pipeline.learn.input.batches import ArrayBatches, ShardBatches, batches_of
from pipeline.learn.input.loader import EvalLoader, TrainLoader
from pipeline.learn.models import build_model
from pipeline.progress import progress
from pipeline.record import Net
from pipeline.run.key import code_version
from pipeline.run.weights import load_weights

if TYPE_CHECKING:
    from pipeline.learn.input.crops import View

FOLDER = "predictions"  # below paths.runs
AVERAGED = 50_000  # training images, as augmented in their first epoch, that batch norm's averages are taken from
AS_TRAINED = EvaluationConfig(views="single", batchnorm="running", runs="members")
LOOKED = 32  # images whose views are in memory together
BATCH = 250  # images a forward pass; more of them do not stay in a CPU's cache from layer to layer
_ROOT = Path(__file__).resolve().parents[1]
# Beside the training code, what decides the probabilities: how images are read and what is asked of the net.
_CODE = (
    "ensemble/forward.py",
    "ensemble/predictions.py",
    "run/weights.py",
)


@dataclass(frozen=True)
class Images:
    """Some images of a store, in the order of `indices`."""

    which: Literal["train", "val", "test"]
    store: Store  # for its statistics and its manifest
    records: ArrayRecords | ShardRecords
    indices: NDArray[np.int64]  # (N,) into records
    evaluation: EvaluationConfig = AS_TRAINED

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) true classes."""
        return np.asarray(self.records.labels[self.indices])

    def batches(self, net: Net, workers: int = 1) -> ArrayBatches | ShardBatches:
        """Batches as `net` was validated on: its crop, its statistics."""
        return batches_of(self.records, self.store.statistics(net.split), net.augment, net.normalize, workers)


def validation_images(store: Store) -> Images:
    """The images held out of training, which members are chosen on."""
    return Images("val", store, store.train(), store.split_indices("holdout")[1])


def all_images(
    which: Literal["val", "test"],
    store: Store,
    records: ArrayRecords | ShardRecords,
    evaluation: EvaluationConfig = AS_TRAINED,
) -> Images:
    """Every image of `records`, in the store's order."""
    return Images(which, store, records, np.arange(len(records)), evaluation)


def probabilities(
    weights: Path, images: Images, cache: Path, device: torch.device, workers: int = 0
) -> NDArray[np.float32]:
    """(N, K) class probabilities of one net, read-only and memory-mapped; softmax and net in float32.

    The net sees each image as `images.evaluation` says; of several views, probabilities are averaged after the softmax.

    Args:
        weights: what training wrote; the header says which net it is and how its images were normalised.
        cache: folder of results; one that is there is not computed again.
        workers: threads that decode JPEGs; 0 for one per CPU core.
    Raises:
        ValueError: weights of another data set, or not written by this project.
    """
    checkpoint = sha256(weights)
    values = kept(checkpoint, images, cache)
    if values is None:
        keep(checkpoint, images, cache, _forward(weights, images, device, workers or os.cpu_count() or 1))
        values = kept(checkpoint, images, cache)
        assert values is not None
    return values


def kept(checkpoint: str, images: Images, cache: Path) -> NDArray[np.float32] | None:
    """What `probabilities` computed earlier for the weights of this sha256, which need not be here; else None."""
    path = cache / _name(checkpoint, images)
    return np.load(path, mmap_mode="r") if path.exists() else None


def keep(checkpoint: str, images: Images, cache: Path, computed: NDArray[np.float32]) -> None:
    """Puts (N, K) probabilities where `kept` finds them."""
    with replacing(cache / _name(checkpoint, images)) as part, part.open("wb") as stream:
        np.save(stream, computed)


def _name(checkpoint: str, images: Images) -> str:
    """Of all that decides the result: the weights, the images, the code."""
    data, evaluation = images.store.manifest.content_hash, images.evaluation
    shown = f"{images.which}-{evaluation.views}-{evaluation.batchnorm}"
    return f"{checkpoint[:16]}-{data[:16]}-{shown}-{_code()}.npy"


def _code() -> str:
    """Hash of the code; a changed comment costs a forward pass, which is cheap."""
    sources = [(_ROOT / name).read_bytes() for name in _CODE]
    return hashlib.sha256(b"".join([code_version().encode(), *sources])).hexdigest()[:12]


def load_net(weights: Path, content_hash: str) -> tuple[torch.nn.Module, Net]:
    """A trained net in evaluation mode, and its record.

    Raises:
        ValueError: trained on other images than those of `content_hash`, or not written by this project.
    """
    state, record = load_weights(weights)
    if record.data != content_hash:
        raise ValueError(
            f"{weights} was trained on data {record.data[:12]}, the store holds {content_hash[:12]}; "
            "train it again on the present store"
        )
    with torch.device("meta"):  # no memory, no random numbers: the file has the weights
        net = build_model(**vars(record.model), num_classes=record.num_classes, in_channels=record.in_channels)
    net.load_state_dict(state, assign=True)
    return net.eval(), record


def _forward(weights: Path, images: Images, device: torch.device, workers: int) -> NDArray[np.float32]:
    net, record = load_net(weights, images.store.manifest.content_hash)
    batches = images.batches(record, workers)
    title = f"{images.which} images, {record.name} {record.key}"
    if images.evaluation.batchnorm == "averaged":
        net = net.to(memory_format=torch.channels_last).to(device)
        average_statistics(net, _training_images(images.store, record, device, workers, title))
    net = ready(net, device)
    if isinstance(batches, ArrayBatches) or images.evaluation.views == "single":  # small images have one (Sec. 4.2)
        return _single(net, batches, images.indices, device, title)
    # Imported here: small images need no JPEG library.
    from pipeline.learn.input.views import views

    augment, family = record.augment, record.model.family
    if images.evaluation.views == "multi_scale" and family in NO_GLOBAL_POOL:
        raise ValueError(
            f"{record.name} {record.key} cannot be shown whole images of several scales, it has no fully "
            "convolutional form here; use evaluation=ten_crop or evaluation=single, or leave it out (evaluation.runs=members)"
        )
    seen = views(images.evaluation.views, augment.crop, augment.test_side)
    return _averaged(net, batches, images.indices, seen, device, title)


def _single(
    net: torch.nn.Module,
    batches: ArrayBatches | ShardBatches,
    indices: NDArray[np.int64],
    device: torch.device,
    title: str,
) -> NDArray[np.float32]:
    parts: list[Tensor] = []
    with progress(title, len(indices), "images") as shown:
        for fetched in EvalLoader(indices, BATCH, batches.fetch, ahead=batches.ahead):
            inputs, _ = batches.finish(tuple(part.to(device) for part in fetched))
            parts.append(class_probabilities(net, inputs))  # stays where it is: fetching it would make a GPU wait
            shown.advance(len(inputs))
        values = torch.cat(parts).cpu().numpy()
    assert len(values) == len(indices)
    return values


def _averaged(
    net: torch.nn.Module,
    batches: ShardBatches,
    indices: NDArray[np.int64],
    seen: list[View],
    device: torch.device,
    title: str,
) -> NDArray[np.float32]:
    """Mean over the views, summed in float64."""
    parts: list[Tensor] = []

    def looked(some: NDArray[np.int64], _: object) -> tuple[int, list[tuple[NDArray[np.int64], Tensor]]]:
        return len(some), [group for view in seen for group in batches.look(some, view)]

    with progress(title, len(indices), "images") as shown:
        for count, groups in EvalLoader(indices, LOOKED, looked, ahead=1):
            total: Tensor | None = None
            for places, pixels in groups:
                values = class_probabilities(net, batches.inputs(pixels.to(device))).double()
                if total is None:
                    total = torch.zeros(count, values.shape[1], dtype=torch.float64, device=device)
                total.index_add_(0, torch.from_numpy(places).to(device), values)
            if total is not None:
                parts.append(total / len(seen))
            shown.advance(count)
    return torch.cat(parts).float().cpu().numpy()


def _training_images(store: Store, record: Net, device: torch.device, workers: int, title: str) -> Iterator[Tensor]:
    """Batches of the net's training images, augmented and in the order of the first epoch of seed 0."""
    of_training = Images("train", store, store.train(), store.split_indices(record.split, record.num_train)[0])
    batches = of_training.batches(record, workers)
    size = min(BATCH, len(of_training.indices))
    loader = TrainLoader(
        of_training.indices, len(of_training.records), size, batches.width, 0, batches.fetch, ahead=batches.ahead
    )
    count = min(len(loader), max(1, AVERAGED // size))
    with progress(f"batch norm's averages, {title}", count * size, "images") as shown:
        for fetched in islice(loader, count):
            inputs, _ = batches.finish(tuple(part.to(device) for part in fetched))
            yield inputs
            shown.advance(size)
