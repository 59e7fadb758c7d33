"""`python -m pipeline.bench.gpu [--part NAME ...] [--data STORE] [--full] [--list] [--out DIR]`: what only a GPU can show.

Needs torch, pytorch_lightning, numpy, safetensors and pyyaml alone, and no data but for errors on real images; a part takes less than 8 minutes on a
GPU of 40 GB or more. Each writes gpu-<part>.json to --out, which is the environment variable OUT's folder, or metrics/.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from pipeline.atomic import write_json
from pipeline.bench.gpu.parts import PARTS, Found


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 all is well or does not apply; 1 a part is not as it should be; 2 there is no CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.bench.gpu", description="Checks on a CUDA device.")
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
    results = [check(name, parts[name], torch.device("cuda"), options.out) for name in options.part or PARTS]
    return 0 if all(result["ok"] is not False for result in results) else 1


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
            values, ok = {"error": f"{type(error).__name__}: {error}"}, False
    result = {
        "part": name,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        "values": values,
        "seconds": time.monotonic() - start,
        "ok": ok,
    }
    write_json(out / f"gpu-{name}.json", _finite(result))
    verdict = {True: "ok", False: "NOT OK", None: "not applicable"}[ok]
    print(f"{name}: {verdict} in {result['seconds']:.0f} s, {values}", flush=True)
    return result


def _finite(value: Any) -> Any:
    """`value` with NaN and infinity as words, since JSON has neither."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
