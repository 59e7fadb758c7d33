"""What a result says of an error."""

from __future__ import annotations

import traceback


def failure(error: BaseException) -> dict[str, str]:
    """error: type and message; traceback: with what had come before it, since a failed CUDA capture raises a second error."""
    return {"error": f"{type(error).__name__}: {error}", "traceback": "".join(traceback.format_exception(error))}
