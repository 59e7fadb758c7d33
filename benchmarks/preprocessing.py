"""`python -m benchmarks.preprocessing ARCHIVE SIZE CORES`: preprocess in a process of its own.

Prints one line of JSON: seconds (imports aside), images, peak (bytes of memory).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.photos import photo_data
from pipeline.data.preprocess import preprocess
from pipeline.data.sources import fetch


def measured(archive: Path, image_size: int, cores: int) -> dict[str, float]:
    """What preprocess costs on so many cores, in a new process."""
    command = [sys.executable, "-m", "benchmarks.preprocessing", str(archive), str(image_size), str(cores)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return json.loads(done.stdout)


def main(archive: Path, image_size: int, cores: int) -> dict[str, float]:
    import pyarrow  # noqa: F401 (preprocess imports it; not what is measured)
    from PIL import Image

    Image.init()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    data = photo_data(archive, image_size, workers=cores)
    with TemporaryDirectory(dir=archive.parent) as folder:
        raw, out = Path(folder) / "raw", Path(folder) / "store"
        fetch(data, raw, Path(folder))
        start = time.perf_counter()
        manifest = preprocess(data, raw, out)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "images": sum(manifest.counts.values()), "peak": _peak()}


def _peak() -> int:
    """Bytes of memory in use at most."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux getrusage also knows of the process that this one was forked from.
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
