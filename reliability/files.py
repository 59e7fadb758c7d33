"""Files that the pipeline writes and reads again: bits flipped, or cut short."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reliability import Outcome, experiment, files_read
from reliability.child import Ended, call

PROMISE = "named in one sentence; or made again or replaced by a good copy, which a line says; or without effect"
STOPPED = 7  # seed of the training that has not ended


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        pattern: of the files, below the workspace.
        read: reads one as the pipeline does; returns all that it says, as lines.
        tries: how many damages.
        lines: a part of the file may be lost, if that is said.
        works: `read` changes the workspace, and gets a copy.
    """

    pattern: str
    read: Callable[[Path, Path], list[str]]
    tries: int
    lines: bool = False
    works: bool = False


KINDS = {
    "store's arrays": Kind("data/store/digits/*.np*", files_read.store, 40),
    "store's manifest": Kind("data/store/digits/manifest.json", files_read.store, 20),
    "shards": Kind("data/store/photos/*.arrow", files_read.shards, 20),
    "manifest of raw data": Kind("data/raw/digits/manifest.json", files_read.raw, 15),
    "raw data": Kind("data/raw/digits/*.npz", files_read.raw, 10),
    "last checkpoint": Kind("runs/stopped/last.ckpt", files_read.checkpoint, 40),
    "weights": Kind("runs/*/*.safetensors", files_read.weights, 30),
    "ensemble's weights": Kind("experiments/digits/ensemble/weights/*", files_read.members, 15),
    "kept probabilities": Kind("runs/predictions/*val*", files_read.probabilities, 20),
    "run.json": Kind("runs/*/run.json", files_read.made_again, 15),
    "shipped.json": Kind("runs/*/shipped.json", files_read.made_again, 15),
    "journal": Kind("runs/*/journal.jsonl", files_read.journal, 40, lines=True),
    "members.json": Kind("experiments/digits/ensemble/members.json", files_read.ensemble, 15),
    "results": Kind("experiments/digits/*.json", files_read.result, 30),
    "composed.yaml": Kind("composed.yaml", files_read.composed, 15),
    "checkpoint, trained on": Kind("runs/stopped/*.ckpt", files_read.trained, 6, works=True),
    "ensemble's weights, evaluated": Kind("experiments/*/ensemble/weights/*", files_read.evaluated, 3, works=True),
}


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    os.environ["XDG_CACHE_HOME"] = str(scratch / "cache")
    rng, root = random.Random(seed), scratch / "root"
    root.mkdir()
    experiment.preload()
    experiment.make(root)
    experiment.stop_after_two_validations(root, STOPPED)
    files_read.finish(root, STOPPED)
    for title, kind in KINDS.items():
        paths = sorted(path.relative_to(root) for path in root.glob(kind.pattern))
        whole: dict[Path, list[Ended]] = {}
        for at in range(kind.tries):
            path = paths[at % len(paths)]
            if path not in whole:
                whole[path] = [tried(root, scratch, path, kind, lambda content: content)]
                whole[path].append(tried(root, scratch, path, kind, lambda content: None))
            what, damage = damaged(rng)
            ended = tried(root, scratch, path, kind, damage)
            name = f"{title}: {path}, {what}, case {at} of seed {seed}"
            yield judged(name, path, kind, ended, whole[path], damage((root / path).read_bytes()) or b"")


def damaged(rng: random.Random) -> tuple[str, Callable[[bytes], bytes | None]]:
    """What is done to a file, in words and as a function of its content."""
    share, bit = rng.random(), rng.randrange(8)
    if rng.random() < 0.25:
        return f"cut to {share:.0%}", lambda content: content[: int(share * len(content))]

    def flipped(content: bytes) -> bytes:
        at = int(share * len(content))
        return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]

    return f"bit {bit} flipped at {share:.6f}", flipped


def tried(root: Path, scratch: Path, path: Path, kind: Kind, damage: Callable[[bytes], bytes | None]) -> Ended:
    """Reads the damaged file (None removes it) in a child, and puts the whole one back."""
    work = root
    if kind.works:
        work = scratch / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(root, work)
    whole = (work / path).read_bytes()
    content = damage(whole)
    (work / path).unlink()
    if content is not None:
        (work / path).write_bytes(content)
    ended = call(partial(_read, kind, work, path), cwd=work, timeout_s=120)
    (work / path).write_bytes(whole)
    return ended


def _read(kind: Kind, root: Path, path: Path) -> int:
    """In the child: prints what the file says as the last line."""
    import logging
    import sys

    import torch

    from pipeline import border

    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        lines = kind.read(root, root / path)
    except Exception as error:
        return border.report(error, "read")
    sys.stderr.flush()
    print(json.dumps([hashlib.sha256(line.encode()).hexdigest()[:16] for line in lines]))
    return 0


def judged(name: str, path: Path, kind: Kind, ended: Ended, whole: list[Ended], content: bytes) -> Outcome:
    """Ok if the damage was refused by name, changed nothing, or was mended and said.

    Args:
        whole: how the undamaged file was read, and how the pipeline does without it.
        content: of the damaged file.
    """
    good, without = whole
    assert good.code == 0, good.output
    if ended.refused():
        return Outcome(name, path.name in ended.last_line, ended.summary())
    if ended.code or ended.timed_out:
        return Outcome(name, False, ended.summary())
    said = path.name in ended.output
    lines, expected = _lines(ended), _lines(good)
    mended = said and without.code == 0 and lines == _lines(without)
    shortened = kind.lines and said and set(lines) <= set(expected)
    # A flipped bit in the name of the checksum leaves a file that needs none, with the same content.
    unnamed = path.suffix == ".json" and set(expected) <= set(lines) and b'"checksum"' not in content
    ok = lines == expected or mended or shortened or unnamed
    return Outcome(name, ok, "" if ok else f"read otherwise without a word: {ended.output[-200:]}")


def _lines(ended: Ended) -> list[Any]:
    return json.loads(ended.last_line)
