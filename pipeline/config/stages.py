"""data.*, ensemble.*, evaluation.*, tracking.* and paths.*: the stages around training. sweep.* has a file of its own."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pipeline.config.limits import LimitsConfig
from pipeline.config.section import Count, Pixels, Positive, Range, Section, Seed, Threads, require, require_targets

LONGEST_NAME = 80  # of a data set; file systems take 255 bytes, and files add their own endings
ANNOTATED = ("boxes", "coco", "voc")  # sources whose objects have boxes, in files beside the images
SIDES = {
    "digits": 8,
    "digit_scenes": 128,
    "digit_objects": 32,
    "cifar10": 32,
    "cifar100": 32,
}  # of published images, in pixels
DIGITS = (
    "digits",
    "digit_scenes",
    "digit_objects",
)  # sources made of scikit-learn's digits, without a published test set


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Where images come from, how they are stored, and which of them training sees."""

    section: ClassVar[str] = "data"

    name: str  # name of the data set, of its folders and of its models in MLflow
    # What is read: a data set by its name, the class folders of data.path, or its images with boxes in COCO's format.
    source: Literal[
        "digits",
        "digit_scenes",
        "digit_objects",
        "cifar10",
        "cifar100",
        "folder",
        "imagenet",
        "boxes",
        "coco",
        "voc",
    ] = "folder"
    path: str = ""  # folder or archive that the user supplies (folder, imagenet, boxes, coco, voc); "" otherwise
    mirror: str = ""  # folder or URL prefix searched before the official address; "" for none
    # Of a folder or archive: train/<class>/* and the like, <class>/* without splits, or recognised by its files.
    layout: Literal["auto", "splits", "classes"] = "auto"
    labels: str = ""  # name of the table with the labels in that folder or archive; "" to look for one
    format: Literal["arrays", "shards"] = "arrays"  # arrays: small images of one size; shards: JPEGs of any size
    image_size: Pixels = 32  # arrays: side of the square image; shards: longest shorter side kept, in pixels
    # Images drawn for testing where no test set is published, stratified by class (digits, folder), at random (boxes), or made
    # (digit_scenes, digit_objects); 0 for a fifth (folder, boxes).
    num_test: Count = 0
    # Images carved from train for validation where no validation split is published, by class (boxes: at random); 0 for a fifth.
    num_val: Count = 0
    num_train: Count = 0  # images of the split that are trained on, stratified by class; 0 for all
    split_seed: Seed = 0  # draws the validation images, and makes the scenes of digit_scenes and digit_objects
    split: Literal["holdout", "full"] = "holdout"  # full: train on every image but the test set's, select nothing
    skip_corrupt: bool = False  # leave out images that cannot be decoded; false: refuse the data set and name them
    # Threads that decode images (of detectors: a batch each); 0 means one for each CPU core that the process may use.
    workers: Threads = 0
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    @property
    def decoders(self) -> int:
        """Threads that decode images. Schedulers and containers may give a process a part of the machine's cores."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.workers or cores

    def check(self) -> None:
        require(
            len(self.name) <= LONGEST_NAME and re.fullmatch(r"\w[\w-]*", self.name) is not None,
            f"data.name={self.name!r}; it names folders and a model in MLflow's registry: at most {LONGEST_NAME} letters, digits, _ and - (override: data.name={_nearest(self.name)})",
        )
        needs_path, may_have_path = self.source in ("folder", "imagenet", "boxes"), self.source in ("coco", "voc")
        require(
            not needs_path or bool(self.path or self.mirror),
            f"data.source={self.source} without data.path; name the folder or archive that holds the images (override: data.path=/my/images)",
        )
        require(
            needs_path or may_have_path or not self.path,
            f"data.path={self.path} with data.source={self.source}, which reads no data.path; leave it empty (override: data.path='') and name a folder that holds the published archive in data.mirror",
        )
        require(
            self.num_test > 0 if self.source in DIGITS else self.num_test == 0 or self.source in ("folder", "boxes"),
            f"data.num_test={self.num_test} with data.source={self.source}; {', '.join(DIGITS)}, which are published without a test set, take a number above 0, folder and boxes any number, every other source 0",
        )
        for key, value, default in (("layout", self.layout, "auto"), ("labels", self.labels, "")):
            require(
                value == default or self.source == "folder",
                f"data.{key}={value} with data.source={self.source}, whose layout is fixed; leave it out, or choose data=folder",
            )
        require(
            not self.labels or self.layout == "auto",
            f"data.labels={self.labels} with data.layout={self.layout}, which reads no table; leave one of them out",
        )
        require(
            self.source not in ANNOTATED or self.format == "shards",
            f"data.format={self.format} with data.source={self.source}, whose images keep their shape (override: data.format=shards)",
        )
        side = SIDES.get(self.source, self.image_size)
        require(
            self.source not in SIDES or (self.format == "arrays" and self.image_size == side),
            f"data.format={self.format} and data.image_size={self.image_size} with data.source={self.source}, whose images are {side} pixels wide (override: data.format=arrays data.image_size={side})",
        )


def _nearest(name: str) -> str:
    """An allowed name that resembles `name`."""
    return re.sub(r"[^\w-]+", "_", name).strip("_-")[:LONGEST_NAME] or "mine"


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig(Section):
    """How members are chosen: by validation error alone, or by the user."""

    section: ClassVar[str] = "ensemble"

    # best_per_depth: the best run of each net; deepest_twice: two of the deepest net, as in the paper; one_net: seeds of the best
    # net; top_k: the best of any kind; greedy: repeatedly the run that helps most; snapshots: of the best run with snapshots;
    # listed: those of ensemble.members.
    selection: Literal["best_per_depth", "deepest_twice", "one_net", "top_k", "greedy", "snapshots", "listed"] = (
        "best_per_depth"
    )
    size: Positive = 6  # largest number of members
    members: list[str] = field(default_factory=list)  # for selection "listed": keys of runs, or their ids in MLflow
    temperature: Literal["none", "validation"] = "none"  # of each member, fitted to validation images before averaging

    def check(self) -> None:
        listed = self.selection == "listed"
        require(
            listed == bool(self.members),
            f"ensemble.selection={self.selection} with ensemble.members={self.members}; ensemble=listed needs the keys of the "
            "runs, every other selection chooses them itself",
        )
        require(
            len(set(self.members)) == len(self.members), f"ensemble.members={self.members}; each run can be listed once"
        )
        require(
            len(self.members) <= self.size,
            f"ensemble.members lists {len(self.members)} runs, ensemble.size={self.size} is the most; raise it",
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """How test images are shown to the nets. Validation, which chooses members, is as in training."""

    section: ClassVar[str] = "evaluation"

    # Averaged after the softmax; see `pipeline.learn.input.views`.
    views: Literal["single", "ten_crop", "multi_scale"] = "single"
    # Statistics: the running ones of training, or means taken over training images after it.
    batchnorm: Literal["running", "averaged"] = "running"
    # Detectors: predicted boxes become regions in a second pass, and boxes of a class vote on its place (appendix B).
    refine: bool = False
    scales: list[Pixels] = field(
        default_factory=list
    )  # detectors: shorter sides that regions are seen at; [] for one scale
    # The members and the named run, or every finished training on these images as well.
    runs: Literal["members", "all"] = "members"


@dataclass(frozen=True, kw_only=True)
class ServeConfig(Section):
    """Where the registered ensemble answers requests, and what it takes at once."""

    section: ClassVar[str] = "serve"

    host: str = "127.0.0.1"  # address to listen on; the server asks for no password
    port: Annotated[int, Range(1, 65535)] = 5001  # TCP port
    max_bytes: Positive = 16 * 2**20  # of a request; JSON of small lists takes 20 times as much memory
    max_images: Positive = 256  # of a request
    max_connections: Annotated[int, Range(1, 65535)] = 32  # simultaneous connections; others get 503


@dataclass(frozen=True, kw_only=True)
class PredictConfig(Section):
    """What names the classes of image files, or the objects in them, and how the answers are written."""

    section: ClassVar[str] = "predict"

    # "" for the registered ensemble of data.name; a file, from the current folder on; run:<key or MLflow's id of a
    # run>; published:<name>.
    weights: str = ""
    output: Literal["table", "csv", "json"] = "table"  # json: a line for each image
    top: Annotated[int, Range(1, 100)] = 5  # nets that classify: classes of an image, the most probable first
    score: Annotated[float, Range(0, 1)] = 0.5  # detectors: the least score of an object that is shown
    # Detectors: a folder, from the current one on, in which each image is written with its boxes; "" for none.
    draw: str = ""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Section):
    """A net or an ensemble as a file that other programs run."""

    section: ClassVar[str] = "export"

    # "" for the ensemble of data.name in this workspace; a file, from the current folder on; run:<key or MLflow's id of a
    # run>; published:<name>.
    weights: str = ""
    format: Literal["onnx", "pt2"] = "onnx"  # pt2: a program of torch.export
    path: str = ""  # of the file to write, from the current folder on; "" for a name of its own there


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(Section):
    """MLflow, and other loggers beside it."""

    section: ClassVar[str] = "tracking"

    uri: str = ""  # "" for the SQLite store below paths.mlruns
    system_metrics_every_s: Annotated[int, Range(0, 86400)] = 5  # between samples of the machine's load; 0: none
    # Lightning's loggers that get a training's metrics too, each by its _target_ and arguments; save_dir is by default the
    # run's folder.
    loggers: list[dict[str, Any]] = field(default_factory=list)

    def check(self) -> None:
        require_targets("tracking.loggers", self.loggers, "pytorch_lightning.loggers.CSVLogger")


@dataclass(frozen=True, kw_only=True)
class PathsConfig(Section):
    """Folders that outlive one workspace; relative ones start at the repository's root."""

    section: ClassVar[str] = "paths"

    runs: str = "runs"  # a folder for each training: checkpoints, weights, journal
    mlruns: str = "mlruns"  # MLflow's SQLite store and artifacts, unless tracking.uri names a server
