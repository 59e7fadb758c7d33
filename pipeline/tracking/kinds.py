"""Kinds of models in MLflow: the code that each runs, what this needs, and the table that it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.data.boxes import SIDES

PACKAGE = Path(__file__).resolve().parents[1]


class Kind(NamedTuple):
    """What all models of one task have in common."""

    code: Path  # gives MLflow its model (`mlflow.models.set_model`), of a net or of several
    needs: tuple[str, ...]  # packages that the code imports when it loads and answers
    columns: Callable[
        [Sequence[str]], Mapping[str, str]
    ]  # of the answer: MLflow's types by name, from the names of the classes


_NEEDS = ("mlflow", "numpy", "pandas", "pillow", "safetensors", "torch", "torchvision")
CLASSIFIER = Kind(PACKAGE / "ensemble" / "model.py", _NEEDS, lambda classes: dict.fromkeys(classes, "float"))
DETECTOR = Kind(
    PACKAGE / "detection" / "model.py",
    _NEEDS,
    lambda _: {"image": "long", "class": "string", "score": "float", **dict.fromkeys(SIDES, "float")},
)


def kind_of(description: Mapping[str, Any]) -> Kind:
    """Of a model that `pipeline.run.served` describes."""
    return DETECTOR if description["detects"] else CLASSIFIER
