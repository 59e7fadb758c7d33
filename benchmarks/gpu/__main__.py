"""`python -m benchmarks.gpu [--part NAME ...] [--data STORE] [--full] [--list] [--out DIR]`: what only a GPU can show.

Needs torch, pytorch_lightning, numpy, safetensors and pyyaml alone, and no data but for errors on real images. A part takes
less than 8 minutes on a GPU of 40 GB or more; of several, each is a process of its own, which is ended when it takes longer,
since an error can leave CUDA unusable for the rest of a process. Each writes gpu-<part>.json to --out, which is the
environment variable OUT's folder, or metrics/.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.gpu.failure import failure
from benchmarks.gpu.parts import PARTS, Found
from pipeline.atomic import write_json

COMMAND = [sys.executable, "-m", "benchmarks.gpu"]
LIMIT_S = 480.0  # of a part


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 all is well or does not apply; 1 a part is not as it should be; 2 there is no CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Checks on a CUDA device.")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated; default: all")
    parser.add_argument("--data", type=Path, metavar="STORE", help="CIFAR-10 as preprocess stores it; default: noise")
    parser.add_argument("--full", action="store_true", help="resnet20 makes all steps, however long they take")
    parser.add_argument("--list", action="store_true", help="print the parts' names and end")
    parser.add_argument("--out", type=Path, metavar="DIR", default=Path(os.environ.get("OUT") or "metrics"))
    options = parser.parse_args(argv)
    if options.list:
        print("\n".join(PARTS))
        return 0
    if not torch.cuda.is_available():
        print(f"gpu-check needs a CUDA device, and torch {torch.__version__} finds none here", file=sys.stderr)
        return 2
    parts: dict[str, Callable[..., Found]] = {
        **PARTS,
        "resnet20": partial(PARTS["resnet20"], data=options.data, full=options.full),
    }
    names = options.part or list(PARTS)
    if len(names) == 1:
        return 0 if check(names[0], parts[names[0]], torch.device("cuda"), options.out)["ok"] is not False else 1
    shared = [*(("--data", str(options.data)) if options.data else ()), *(("--full",) if options.full else ())]
    limit_s = None if options.full else LIMIT_S
    well = [_apart(name, [*COMMAND, "--part", name, *shared], options.out, limit_s) for name in names]
    return 0 if all(well) else 1


def _apart(name: str, command: list[str], out: Path, limit_s: float | None) -> bool:
    """Runs a part in a process of its own; whether it is well. What ends before it says so is written down as failed."""
    path = out / f"gpu-{name}.json"
    path.unlink(missing_ok=True)
    start = time.monotonic()
    process = subprocess.Popen([*command, "--out", str(out)], start_new_session=True)
    try:
        code = process.wait(limit_s)
        why = f"ended with exit code {code}"
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        code, why = 1, f"took longer than {limit_s:.0f} s"
    if not path.exists():
        seconds = time.monotonic() - start
        device = torch.cuda.get_device_name()
        _write(out, {**_about(name, device), "values": {"error": why}, "seconds": seconds, "ok": False})
        print(f"{name}: NOT OK in {seconds:.0f} s, {why}", flush=True)
    return code == 0


def check(name: str, part: Callable[..., Found], device: torch.device, out: Path) -> dict[str, Any]:
    """Runs one part and writes gpu-<name>.json: part, device, torch, values, seconds, ok."""
    print(f"{name}: running", flush=True)
    start = time.monotonic()
    with TemporaryDirectory(prefix=f"gpu-{name}-") as work:
        try:
            values, ok = part(device, Path(work))
        except (
            Exception
        ) as error:  # whatever CUDA, Lightning or a full disk raise: the other parts still have their say
            values, ok = failure(error), False
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    result = {**_about(name, named), "values": values, "seconds": time.monotonic() - start, "ok": ok}
    _write(out, result)
    verdict = {True: "ok", False: "NOT OK", None: "not applicable"}[ok]
    print(f"{name}: {verdict} in {result['seconds']:.0f} s, {values.get('traceback', values)}", flush=True)
    return result


def _about(name: str, device: str) -> dict[str, Any]:
    return {"part": name, "device": device, "torch": torch.__version__}


def _write(out: Path, result: dict[str, Any]) -> None:
    write_json(out / f"gpu-{result['part']}.json", _finite(result))


def _finite(value: Any) -> Any:
    """`value` with NaN and infinity as words, since JSON has neither."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # so that a part's process ends with this one
    sys.exit(main())
