"""The same measurement with plain and with compiled steps; one that fails takes nothing from the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.gpu.failure import failure

BOTH = (False, True)


def by_variant(
    compiled: Sequence[bool], measured: Callable[[bool], dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], bool]:
    """What `measured` found for trainer.compile false and true as plain and compiled, or its error; whether none failed."""
    found: dict[str, dict[str, Any]] = {}
    for one in compiled:
        try:
            values = measured(one)
        except Exception as error:  # whatever the compiler or CUDA raise
            values = failure(error)
        found["compiled" if one else "plain"] = values
        print(f"{'compiled' if one else 'plain'}: {values.get('error', values)}", flush=True)
    return found, not any("error" in values for values in found.values())
