"""A run's key: a hash of everything that decides its result. An equal key resumes a run, another starts a new one."""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.config import OTHER_DEPTHS, Config

_ROOT = Path(__file__).resolve().parents[1]
# The code that decides the weights: nets, batches, training, and how the store gives out images and splits. Code that
# launches, logs or tracks a training can change without making it another run.
_CODE = ("learn", "data/shards.py", "data/splits.py", "data/store.py")
# What decides those of a detector alone: its net, its boxes, and the AP by which its weights are chosen.
_DETECTORS_CODE = (
    *("learn/models/detectors.py", "learn/input/scenes.py", "learn/training/detector.py"),
    *("data/boxes.py", "evaluation/detection.py", "evaluation/matching.py"),
)


def run_key(config: Config, content_hash: str, precision: str, start: str = "") -> str:
    """12 hex digits. World size, threads and paths are left out, since they change rounding at most; see `deciding`.

    Args:
        content_hash: of the store.
        precision: fp32, tf32 or bf16: recipe.precision as resolved on this hardware.
        start: fingerprint of the weights that training starts from; "" for random weights.
    """
    started: dict[str, list] = {"start": [start, config.start.head, config.start.backbone_lr]} if start else {}
    if config.start.checkpoint:  # another run's key, which hashes all that came before
        started["checkpoint"] = [config.start.checkpoint]
    facts = {
        **started,
        "seed": config.seed,
        "data": [content_hash, config.data.split, *([config.data.num_train] if config.data.num_train else [])],
        "model": asdict(config.model),
        "trainer": deciding(config),
        "recipe": {**asdict(config.recipe), "precision": precision},
        "code": code_version(config.model.detects),
    }
    return _hash(json.dumps(facts, sort_keys=True))[:12]


def deciding(config: Config) -> dict[str, Any]:
    """The parts of trainer.* that change more than rounding."""
    trainer = config.trainer
    return {
        "val_every_epochs": trainer.val_every_epochs,  # only validated weights can be chosen as the best
        "statistics_per_rank": 1 if trainer.sync_batchnorm else trainer.world_size,
        # Each rank draws the dropout masks of its own images.
        "dropout_per_rank": trainer.world_size if config.model.kind in OTHER_DEPTHS else 1,
        **({"callbacks": trainer.callbacks} if trainer.callbacks else {}),  # which may do anything
    }


@cache
def code_version(detects: bool = False) -> str:
    """Hash of the syntax trees of what decides the weights; comments, docstrings and layout do not count."""
    theirs = {_ROOT / name for name in _DETECTORS_CODE}
    shared = [path for name in _CODE for path in _sources(_ROOT / name) if path not in theirs]
    files = [*shared, *(sorted(theirs) if detects else ())]
    return _hash("".join(f"{path.relative_to(_ROOT)} {_syntax(path)}" for path in files))[:12]


def _sources(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _syntax(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        documentable = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documentable) and ast.get_docstring(node) is not None:
            del node.body[0]
    return _dumped(tree)


def _dumped(node: object) -> str:
    """As ast.dump, but the same from every Python: fields that hold nothing are left out, and versions differ in those."""
    if isinstance(node, list):
        return f"[{', '.join(map(_dumped, node))}]"
    if not isinstance(node, ast.AST) or isinstance(node, ast.Constant):
        return repr(node.value if isinstance(node, ast.Constant) else node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
    return f"{type(node).__name__}({', '.join(f'{name}={_dumped(value)}' for name, value in fields)})"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
