"""`python -m benchmarks [SECTION ...] [--quick] [--data STORE] [--out FILE]`: what the pipeline costs, in ratios.

Without --data the images are seeded noise in CIFAR-10's number and size, made in a temporary folder: no data is needed,
and no speed here depends on what the images show. Rows of sections that are not asked for stay in FILE as they were.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.bench import FULL, QUICK, Bench
from benchmarks.harness import Measured, queued_s, show
from benchmarks.sections import SECTIONS, section
from benchmarks.synthetic import synthetic_store
from pipeline.atomic import read_json, write_json
from pipeline.data.store import open_store
from pipeline.progress import progress
from pipeline.run.stop import Interrupted

BUSY = 0.05  # share of the time spent waiting for a CPU from which on ratios are in doubt


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 measured, whether bars hold or not; 2 a store that cannot be used; 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed against bare loops.")
    parser.add_argument("section", nargs="*", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="less of everything, wider spreads")
    parser.add_argument("--data", type=Path, metavar="STORE", help="a store that preprocess made; default: noise")
    parser.add_argument("--out", type=Path, metavar="FILE", default=Path("metrics/bench.json"))
    options = parser.parse_args(argv)
    for name in options.section:
        if name not in SECTIONS:
            parser.error(f"{name} is no section; choose from {', '.join(SECTIONS)}")
    try:
        _bench(options.section or list(SECTIONS), options.quick, options.data, options.out)
    except (ValueError, FileNotFoundError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except (Interrupted, KeyboardInterrupt):
        print("bench: interrupted; the sections that were done are written", file=sys.stderr)
        return 130
    return 0


def _bench(names: list[str], quick: bool, data: Path | None, out: Path) -> None:
    effort = QUICK if quick else FULL
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with TemporaryDirectory(prefix="bench-") as folder, progress("bench", None, "measurements") as shown:
        work = Path(folder)
        shown.note("making data")
        store = open_store(data) if data else synthetic_store(work / "store", images=effort.stored)

        def told(line: str) -> None:
            shown.note(line)
            shown.advance()

        bench = Bench(store, work, out.parent, device, effort, told)
        start, queued = time.monotonic(), queued_s()
        found: list[Measured] = []
        for name in names:
            shown.note(name)
            rows = section(name)(bench)
            _write(out, name, rows)
            found += rows
        busy = (queued_s() - queued) / (time.monotonic() - start)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    show(found, f"{store.manifest.name} images, {where}, torch {torch.__version__}")
    if busy > BUSY:
        print(
            f"other processes held the CPU {busy:.0%} of the time; run it again on an idle machine for ratios to trust"
        )
    print(out)


def _write(out: Path, name: str, rows: list[Measured]) -> None:
    """Replaces the section's rows in the file and keeps the others."""
    kept = [row for row in read_json(out) if row["section"] != name] if out.exists() else []
    new = [{"section": name, **asdict(row)} for row in rows]
    order = list(SECTIONS)
    write_json(out, sorted(kept + new, key=lambda row: order.index(row["section"])))


if __name__ == "__main__":
    sys.exit(main())
