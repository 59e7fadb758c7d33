"""data.*: which images there are, and what training may see of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.config.section import Section, require

SIDES = {"digits": 8, "cifar10": 32, "cifar100": 32}  # of published images, in pixels


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Where images come from, how they are stored, which of them training may see."""

    name: str
    source: Literal["digits", "cifar10", "cifar100", "folder", "imagenet"]
    path: str  # folder or archive that the user supplies (folder, imagenet); "" otherwise
    mirror: str  # folder or URL prefix searched before the official address; "" for none
    format: Literal["arrays", "shards"]
    image_size: int  # arrays: side of the square image; shards: longest shorter side kept, in pixels
    num_val: int  # images carved from train for validation, stratified by class
    num_train: int  # images of the split that are trained on, stratified by class; 0 for all
    split_seed: int
    split: Literal["holdout", "full"]  # full: train on every training image, no validation, no selection
    skip_corrupt: bool
    workers: int  # parallel decoders; 0 means one per CPU core

    def __post_init__(self) -> None:
        require(
            self.num_val > 0, f"data.num_val={self.num_val}; it must be positive: selection needs images to choose on"
        )
        require(self.num_train >= 0, f"data.num_train={self.num_train}; give a count, or 0 for all")
        require(self.workers >= 0, f"data.workers={self.workers}; give a count, or 0 for one per core")
        needs_path = self.source in ("folder", "imagenet")
        require(
            not needs_path or bool(self.path or self.mirror),
            f"data.source={self.source} without data.path; name the folder or archive that holds the images (override: data.path=/my/images)",
        )
        require(
            needs_path or not self.path,
            f"data.path={self.path} with data.source={self.source}, which reads no data.path; leave it empty (override: data.path='') and name a folder that holds the published archive in data.mirror",
        )
        side = SIDES.get(self.source, self.image_size)
        require(
            self.source not in SIDES or (self.format == "arrays" and self.image_size == side),
            f"data.format={self.format} and data.image_size={self.image_size} with data.source={self.source}, whose images are {side} pixels wide (override: data.format=arrays data.image_size={side})",
        )
