"""A run's key: a hash of all that decides its result. The same key resumes, another key starts afresh."""

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
# What decides the weights: nets, batches and training, and how the store hands out images and splits. Who runs a
# training, and what is logged or tracked, can change without a run becoming another one.
_CODE = ("learn", "data/shards.py", "data/splits.py", "data/store.py")


def run_key(config: Config, content_hash: str, precision: str, start: str = "") -> str:
    """12 hex digits. World size, threads and paths are left out: they change rounding at most, see `deciding`.

    Args:
        content_hash: of the store.
        precision: fp32, tf32 or bf16, what recipe.precision came to on this hardware.
        start: fingerprint of the weights that training starts from, "" for random ones.
    """
    started = {"start": [start, config.start.head, config.start.backbone_lr]} if start else {}
    facts = {
        **started,
        "seed": config.seed,
        "data": [content_hash, config.data.split, *([config.data.num_train] if config.data.num_train else [])],
        "model": asdict(config.model),
        "trainer": deciding(config),
        "recipe": {**asdict(config.recipe), "precision": precision},
        "code": code_version(),
    }
    return _hash(json.dumps(facts, sort_keys=True))[:12]


def deciding(config: Config) -> dict[str, int]:
    """What of the trainer's section changes more than rounding."""
    trainer = config.trainer
    return {
        "val_every_epochs": trainer.val_every_epochs,  # the best weights are chosen among those validated
        "statistics_per_rank": 1 if trainer.sync_batchnorm else trainer.world_size,
        # Each rank draws the masks of its own images.
        "dropout_per_rank": trainer.world_size if config.model.kind in OTHER_DEPTHS else 1,
    }


@cache
def code_version() -> str:
    """Hash of the training code's syntax trees: comments, docstrings and layout do not count."""
    files = [path for name in _CODE for path in _sources(_ROOT / name)]
    return _hash("".join(f"{path.relative_to(_ROOT)} {_syntax(path)}" for path in files))[:12]


def _sources(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _syntax(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body: Any = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            del body[0]
    return ast.dump(tree)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
