"""What the ensemble stage publishes, and evaluation reads.

members.json                      Ensemble
served.json                       what the registered model is made of beside the weights
weights/<sha256>.safetensors      of each member
val_probabilities/<sha256>.npy    (N, K) float32 of each member, on the validation images
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.atomic import read_json, write_json

MEMBERS, SERVED = "members.json", "served.json"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A trained net. Errors are fractions."""

    run_id: str  # in MLflow; "" where it has never answered
    key: str
    model: str  # for example resnet56
    depth: int
    residual: bool
    lr: float | None  # None: made elsewhere
    seed: int | None
    steps: int  # 0: made elsewhere
    params: int
    macs: int  # multiply-adds of one image of the size it was trained on
    weight: float | None  # in the average; None for a net outside the ensemble
    val_err1: float | None  # None for a training on all images
    checkpoint_sha256: str
    weights: str  # file, below the ensemble's folder
    num_train: int = 0  # images it was trained on; 0 for all of the split
    start: str = ""  # what it started from, "" for random weights
    snapshot: int = 0  # step of the snapshot that this is; 0 for the weights that the run chose
    recipe: str = ""  # alike for nets that were trained alike
    temperature: float = 1.0  # its logits are divided by it before averaging


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Members by validation error; weights sum to 1."""

    selection: str
    wanted: int  # ensemble.size; MLflow may have held fewer
    size: int
    data: str
    content_hash: str
    split: str
    val_err1: float | None  # of the average; None where a member has seen the validation images
    val_err1_by_size: list[float | None]  # of the average of the first member, the first two, ...
    members: list[Member]
    registered: dict[str, Any]  # name, version, run_id of the model in MLflow

    def weights(self, folder: Path) -> list[Path]:
        """Every member's weights in the folder that holds the ensemble."""
        return [folder / member.weights for member in self.members]

    def write(self, folder: Path) -> None:
        write_json(folder / MEMBERS, asdict(self))


def read_ensemble(folder: Path, content_hash: str) -> Ensemble:
    """The ensemble in `folder`.

    Raises:
        FileNotFoundError: none there.
        ValueError: it was made of another data set, or by another version of this project.
    """
    if not (folder / MEMBERS).is_file():
        raise FileNotFoundError(f"{folder / MEMBERS} is missing; `dvc repro ensemble` makes it")
    values = read_json(folder / MEMBERS)
    try:
        found = replace(Ensemble(**values), members=[Member(**member) for member in values["members"]])
    except TypeError as error:
        raise ValueError(
            f"{folder / MEMBERS} was written by another version of this project ({error}); run `dvc repro ensemble`"
        ) from None
    if found.content_hash != content_hash:
        raise ValueError(
            f"{folder} was made of data {found.data} {found.content_hash[:12]}, the store holds {content_hash[:12]}; "
            "run `dvc repro ensemble`"
        )
    return found
