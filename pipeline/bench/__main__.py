"""`python -m pipeline.bench [--quick] [--data STORE] [--out FILE]`: what the pipeline costs over bare PyTorch.

Without --data the images are seeded noise in CIFAR-10's number and size, made in a temporary folder: no data is needed,
and no speed here depends on what the images show. It takes under 5 minutes on two idle cores, --quick under one.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from pipeline.atomic import write_json
from pipeline.bench.harness import measure, queued_s, show
from pipeline.bench.rows import FULL, QUICK, rows
from pipeline.bench.synthetic import synthetic_store
from pipeline.data.store import open_store
from pipeline.progress import progress
from pipeline.training.stop import Interrupted

BUSY = 0.05  # share of the time spent waiting for a CPU from which on ratios are in doubt


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 measured, whether bars hold or not; 2 a store that cannot be used; 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.bench", description="Speed against bare PyTorch loops.")
    parser.add_argument("--quick", action="store_true", help="less of everything, wider spreads")
    parser.add_argument("--data", type=Path, metavar="STORE", help="a store that preprocess made; default: noise")
    parser.add_argument("--out", type=Path, metavar="FILE", default=Path("metrics/bench.json"))
    options = parser.parse_args(argv)
    try:
        _bench(options.quick, options.data, options.out)
    except (ValueError, FileNotFoundError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except (Interrupted, KeyboardInterrupt):
        print("bench: interrupted, nothing written", file=sys.stderr)
        return 130
    return 0


def _bench(quick: bool, data: Path | None, out: Path) -> None:
    effort = QUICK if quick else FULL
    with TemporaryDirectory(prefix="bench-") as folder:
        work = Path(folder)
        print("bench: making data, counting how many steps fill the time", file=sys.stderr)
        store = open_store(data) if data else synthetic_store(work / "store", images=effort.stored)
        chosen = rows(store, work, effort)
        found = []
        with progress("bench", effort.pairs * len(chosen), "pairs") as shown:

            def told(line: str) -> None:
                shown.note(line)
                shown.advance()

            start, queued = time.monotonic(), queued_s()
            for row in chosen:
                found.append(measure(row, effort.pairs, told))
            busy = (queued_s() - queued) / (time.monotonic() - start)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    show(found, f"{store.manifest.name} images, {where}, torch {torch.__version__}")
    if busy > BUSY:
        print(
            f"other processes held the CPU {busy:.0%} of the time; run it again on an idle machine for ratios to trust"
        )
    write_json(out, [asdict(row) for row in found])
    print(out)


if __name__ == "__main__":
    sys.exit(main())
