"""`python -m benchmarks [SECTION ...] [--quick] [--data STORE] [--out FILE]`: what the pipeline costs, as ratios.

Without --data the images are seeded noise in CIFAR-10's number and size, made in a temporary folder; no speed here
depends on what the images show. The file keeps the rows of sections that do not run.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.harness import FULL, QUICK, Bench, Effort, Measured, queued_s, show
from benchmarks.synthetic import synthetic_store
from pipeline.atomic import read_json, write_json
from pipeline.data.store import open_store
from pipeline.progress import progress
from pipeline.run import Interrupted

# Each is a function of benchmarks.<module> that takes a Bench and returns rows.
SECTIONS = {
    "training": "training.step_rates",
    "detection": "detection.section",
    "loop": "training.loop_cost",
    "evaluation": "evaluation.section",
    "startup": "startup.section",
    "ranks": "training.ranks",
    "sweep": "sweep.section",
    "growth": "growth.section",
    "images": "jpegs.section",
    "gpu": "gpu.section",
}
BUSY = 0.05  # share of the time spent waiting for a CPU, above which ratios are in doubt


def main(argv: list[str] | None = None, effort: Effort = FULL) -> int:
    """Exit status: 0 measured, whether bars hold or not; 2 a store or device that cannot be used; 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed against bare loops.")
    parser.add_argument("section", nargs="*", help=f"of {', '.join(SECTIONS)}; default: all but gpu")
    parser.add_argument("--quick", action="store_true", help="less of everything, wider spreads")
    parser.add_argument("--data", type=Path, metavar="STORE", help="a store that preprocess made; default: noise")
    parser.add_argument("--out", type=Path, metavar="FILE", default=Path("metrics/bench.json"))
    options = parser.parse_args(argv)
    for name in options.section:
        if name not in SECTIONS:
            parser.error(f"{name} is no section; choose from {', '.join(SECTIONS)}")
    names = options.section or [name for name in SECTIONS if name != "gpu"]
    try:
        _bench(names, QUICK if options.quick else effort, options.data, options.out)
    except (ValueError, FileNotFoundError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except (Interrupted, KeyboardInterrupt):
        print("bench: interrupted; the sections that were done are written", file=sys.stderr)
        return 130
    return 0


def _bench(names: list[str], effort: Effort, data: Path | None, out: Path) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with TemporaryDirectory(prefix="bench-") as folder, progress("bench", None, "measurements") as bar:

        def say(line: str) -> None:
            bar.note(line)
            bar.advance()

        bar.note("making data")
        store = open_store(data) if data else synthetic_store(Path(folder) / "store", images=effort.stored)
        bench = Bench(store, Path(folder), out.parent, device, effort, say)
        start, queued = time.monotonic(), queued_s()
        measured: list[Measured] = []
        for name in names:
            bar.note(name)
            module, function = SECTIONS[name].split(".")
            rows = getattr(import_module(f"benchmarks.{module}"), function)(bench)
            _write(out, name, rows)
            measured += rows
        busy = (queued_s() - queued) / (time.monotonic() - start)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    show(measured, f"{store.manifest.name} images, {where}, torch {torch.__version__}")
    if busy > BUSY:
        print(f"other processes held the CPU {busy:.0%} of the time; run again on an idle machine for reliable ratios")
    print(out)


def _write(out: Path, name: str, rows: list[Measured]) -> None:
    """Replaces the section's rows in the file and keeps the others."""
    others = [row for row in read_json(out) if row["section"] != name] if out.exists() else []
    order = list(SECTIONS)
    new = [{"section": name, **asdict(row)} for row in rows]
    write_json(out, sorted(others + new, key=lambda row: order.index(row["section"])), checksum=False)


if __name__ == "__main__":
    sys.exit(main())
