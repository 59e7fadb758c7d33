"""torch.compile for a net in training."""

from __future__ import annotations

import logging
import os
import shutil

from torch import nn


def compile_net(net: nn.Module) -> None:
    """From its next call on, `net` runs as code generated for this machine; names of weights stay as they are.

    The first call takes a minute; what it makes is cached on the machine (TORCHINDUCTOR_CACHE_DIR). `net.forward` stays
    uncompiled, for shapes that are too rarely seen to be worth it.

    Raises:
        ValueError: no C++ compiler, which the generated code needs.
    """
    if not compiler_found():
        raise ValueError(
            f"trainer.compile=true needs a C++ compiler and {_compiler()} was not found; install g++, name another in "
            "CXX, or use trainer.compile=false"
        )
    # It remarks on every machine without a GPU that there is none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # Batches have one shape; without this, a second shape would have everything compiled anew for any shape.
    net.compile(dynamic=False)


def compiler_found() -> bool:
    return shutil.which(_compiler()) is not None


def _compiler() -> str:
    return os.environ.get("CXX", "g++")
