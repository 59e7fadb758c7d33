"""Files of weights: broken, hostile, odd and good ones, as `start.weights`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from reliability import Outcome
from reliability.child import Ended, call
from reliability.weight_files import KINDS, small_net

PROMISE = "read as it is, or refused in one sentence with exit code 2; no code runs, below 30 s and 1 GB"
ROUNDS = 4  # of every kind
MEMORY = 1 << 30  # bytes that a reader may take
READ = "read as it is"
EITHER = ("flipped",)  # kinds that may be read, since no bit of a foreign file is known to be wrong


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    rng, net = random.Random(seed), small_net()
    for at in range(ROUNDS):
        for kind, make in KINDS.items():
            folder = scratch / f"{at}-{kind}"
            folder.mkdir()
            path = folder / "weights.pt"
            make(rng, path)
            ended = call(partial(read, path, net), cwd=folder, timeout_s=30, memory=MEMORY)
            yield judged(f"{kind}, round {at} of seed {seed}", kind, ended, folder)


def read(path: Path, net: Any) -> int:
    """Exit code of reading the file as start.weights and loading it into the net."""
    from pipeline.border import report
    from pipeline.run.start import starting_point

    try:
        start = starting_point(str(path), path.parent, None)
        assert start is not None and len(start.fingerprint) == 12
        start.load_into(net, head=True)
    except Exception as error:
        return report(error, "train")
    print(READ)
    return 0


def judged(name: str, kind: str, ended: Ended, folder: Path) -> Outcome:
    wanted = READ if kind.startswith("good") else "" if kind in EITHER else "refused"
    result = READ if ended.code == 0 and ended.last_line == READ else "refused" if ended.refused() else ""
    clean = not (folder / "mark").exists() and ended.last_line.isprintable()
    ok = bool(result) and result == (wanted or result) and clean
    return Outcome(name, ok, "" if ok else ended.summary())
