"""Class probabilities that a trained net gives a set of images; computed once, then cached beside the runs.

N images, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from pipeline.atomic import read_array, sha256, write_array
from pipeline.config import NO_GLOBAL_POOL, EvaluationConfig
from pipeline.data.store import ArrayRecords, ShardRecords, Store
from pipeline.ensemble.forward import class_probabilities, ready, trained
from pipeline.errors import PipelineError
from pipeline.learn.input.batches import ArrayBatches, ShardBatches, batches_of
from pipeline.learn.input.loader import EvalLoader, TrainLoader
from pipeline.learn.training.precision import float32_products
from pipeline.progress import progress
from pipeline.record import Net
from pipeline.run.key import code_version
from pipeline.run.weights import load_weights

if TYPE_CHECKING:
    from pipeline.learn.input.crops import View

FOLDER = "predictions"  # below paths.runs
AVERAGED = 50_000  # training images, as augmented in their first epoch, that batch norm's statistics are averaged over
AS_TRAINED = EvaluationConfig(views="single", batchnorm="running", runs="members")
VIEWED = 32  # images whose views are in memory together
BATCH = 250  # images in a forward pass; with more, a CPU's cache does not hold them from layer to layer
_ROOT = Path(__file__).resolve().parents[1]
# The code that decides the probabilities beside the training code.
_CODE = ("ensemble/forward.py", "ensemble/predictions.py", "run/inputs.py", "run/weights.py")


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
        """Batches as `net` was validated on: its crop, its statistics.

        Args:
            workers: threads that decode JPEGs.
        """
        return batches_of(self.records, self.store.statistics(net.split), net.augment, net.normalize, workers)


def validation_images(store: Store) -> Images:
    """The images held out of training; members are chosen on them."""
    return Images("val", store, store.train(), store.split_indices("holdout")[1])


def evaluation_images(store: Store, evaluation: EvaluationConfig = AS_TRAINED) -> Images:
    """Every test image, in the store's order."""
    records = store.test()
    return Images("test", store, records, np.arange(len(records)), evaluation)


def probabilities(
    weights: Path, images: Images, cache: Path, device: torch.device, workers: int = 1
) -> NDArray[np.float32]:
    """(N, K) class probabilities of one net, read-only and memory-mapped; net and softmax compute in float32.

    `images.evaluation` decides the views of an image; their probabilities are averaged after the softmax.

    Args:
        weights: a file that training wrote; its header holds the net's record.
        cache: folder of earlier results, which are not computed again.
        workers: threads that decode JPEGs.
    Raises:
        PipelineError: weights of another data set, or not written by this project.
    """
    checkpoint = sha256(weights)
    values = kept(checkpoint, images, cache)
    return keep(checkpoint, images, cache, _forward(weights, images, device, workers)) if values is None else values


def kept(checkpoint: str, images: Images, cache: Path) -> NDArray[np.float32] | None:
    """The cached probabilities of the weights with this sha256; None where there are none."""
    return read_array(cache / _name(checkpoint, images), "the probabilities are computed again")


def keep(checkpoint: str, images: Images, cache: Path, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Caches (N, K) probabilities; returns them memory-mapped."""
    return write_array(cache / _name(checkpoint, images), values)


def _name(checkpoint: str, images: Images) -> str:
    """A file name for what decides the result: the weights, the images, the code."""
    data, evaluation = images.store.manifest.content_hash, images.evaluation
    view = f"{images.which}-{evaluation.views}-{evaluation.batchnorm}"
    return f"{checkpoint[:16]}-{data[:16]}-{view}-{hash_of(code_version(), _CODE)}.npy"


def hash_of(training: str, files: Sequence[str]) -> str:
    """12 hex digits of the training code's version and of these files; a changed comment costs a forward pass, which is cheap."""
    sources = [(_ROOT / name).read_bytes() for name in files]
    return hashlib.sha256(b"".join([training.encode(), *sources])).hexdigest()[:12]


def net_of_store(weights: Path, content_hash: str) -> tuple[nn.Module, Net]:
    """A trained net in evaluation mode, and its record.

    Raises:
        PipelineError: trained on other images than those of `content_hash`, or not written by this project.
    """
    state, record = load_weights(weights)
    if record.data != content_hash:
        raise PipelineError(
            f"{weights} was trained on data {record.data[:12]}, the store holds {content_hash[:12]}; "
            "train it again on the present store"
        )
    return trained(record.model, record.num_classes, record.in_channels, state), record


def finished(
    loader: Iterable[Any], batches: ArrayBatches | ShardBatches, device: torch.device, title: str, count: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images (B, C, H, W) and labels (B,) on `device`, batch by batch, under a progress bar of `count` images.

    Of images that are mixed, the label is that of which they show more.
    """
    with progress(title, count, "images") as bar:
        for fetched in loader:
            inputs, labels, *_ = batches.finish(tuple(part.to(device) for part in fetched))
            yield inputs, labels
            bar.advance(len(inputs))


def _forward(weights: Path, images: Images, device: torch.device, workers: int) -> NDArray[np.float32]:
    net, record = net_of_store(weights, images.store.manifest.content_hash)
    batches, indices, kind = images.batches(record, workers), images.indices, images.evaluation.views
    title = f"{images.which} images, {record.name} {record.key}"
    if images.evaluation.batchnorm == "averaged":
        net = net.to(memory_format=torch.channels_last).to(device)
        with float32_products("fp32"):
            update_bn(_training_images(images.store, record, device, workers, title), net)
    net = ready(net, device)
    if isinstance(batches, ArrayBatches) or kind == "single":  # small images have one view (Sec. 4.2)
        loader = EvalLoader(indices, BATCH, batches.fetch, ahead=batches.ahead)
        inputs = (inputs for inputs, _ in finished(loader, batches, device, title, len(indices)))
        # They stay on the device: fetching each batch would make a GPU wait.
        return torch.cat([class_probabilities(net, batch) for batch in inputs]).cpu().numpy()
    # Imported here: small images need no JPEG library.
    from pipeline.learn.input.views import views

    if kind == "multi_scale" and record.model.family in NO_GLOBAL_POOL:
        raise PipelineError(
            f"{record.name} {record.key} has no fully convolutional form here, so it takes no whole images of several "
            "scales; use evaluation=ten_crop or evaluation=single"
        )
    looks = views(kind, record.augment.crop, record.augment.test_side)
    with progress(title, len(indices), "images") as bar:
        parts = []
        for mean in _view_averages(net, batches, indices, looks, device):
            parts.append(mean)
            bar.advance(len(mean))
    return torch.cat(parts).float().cpu().numpy()


def _view_averages(
    net: nn.Module, batches: ShardBatches, indices: NDArray[np.int64], views: list[View], device: torch.device
) -> Iterator[Tensor]:
    """(B, K) float64 mean over the views, some images at a time."""

    def cut(some: NDArray[np.int64], _: object) -> tuple[int, list[tuple[NDArray[np.int64], Tensor]]]:
        return len(some), [group for view in views for group in batches.look(some, view)]

    for count, groups in EvalLoader(indices, VIEWED, cut, ahead=1):
        total: Any = 0.0
        for places, pixels in groups:
            values = class_probabilities(net, batches.inputs(pixels.to(device))).double()
            rows = torch.zeros(count, values.shape[1], dtype=torch.float64, device=device)
            total += rows.index_add_(0, torch.from_numpy(places).to(device), values)
        yield total / len(views)


def _training_images(store: Store, record: Net, device: torch.device, workers: int, title: str) -> Iterator[Tensor]:
    """Batches of the net's training images, augmented and in the order of the first epoch of seed 0.

    Mixup and CutMix mix them where they did so in training: batch norm has seen mixed images alone.
    Training keeps running averages of batch norm's statistics, in which the last few batches weigh most. The authors'
    released nets have "the averages" over a large training batch instead (README of KaimingHe/deep-residual-networks).
    """
    images = Images("train", store, store.train(), store.split_indices(record.split, record.num_train)[0])
    batches = images.batches(record, workers)
    size = min(BATCH, len(images.indices))
    loader = TrainLoader(images.indices, len(images.records), size, 0, batches)
    count = min(len(loader), max(1, AVERAGED // size))
    title = f"batch norm's averages, {title}"
    for inputs, _ in finished(islice(loader, count), batches, device, title, count * size):
        yield inputs
