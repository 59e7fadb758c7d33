"""Lightning's callbacks and loggers that the configuration names by `_target_`, as Hydra's users write them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import Logger

from pipeline.config import Config
from pipeline.errors import PipelineError, printable

TARGET = "_target_"


def callbacks_of(config: Config) -> list[pl.Callback]:
    """Those of trainer.callbacks."""
    return _made("trainer.callbacks", config.trainer.callbacks, pl.Callback, {})


def loggers_of(config: Config, folder: str) -> list[Logger]:
    """Those of tracking.loggers.

    Args:
        folder: where they save what they save, unless the configuration says it.
    """
    return _made("tracking.loggers", config.tracking.loggers, Logger, {"save_dir": folder})


@contextmanager
def blamed(config: Config) -> Iterator[None]:
    """Around what Lightning does with them: what it refuses is a sentence, if the configuration names any."""
    try:
        yield
    except MisconfigurationException as error:
        if not (config.trainer.callbacks or config.tracking.loggers):
            raise
        raise PipelineError(
            f"Lightning refuses what trainer.callbacks or tracking.loggers name: {printable(error)}; change or leave them out"
        ) from error


def _made(key: str, entries: Sequence[Mapping[str, Any]], kind: type, usual: Mapping[str, Any]) -> list[Any]:
    """Objects of `kind`, one of each entry.

    Args:
        usual: arguments that an entry may leave out, for targets that take them.
    Raises:
        PipelineError: a target that cannot be imported, is of another kind, or refuses its arguments.
    """
    made = []
    for entry in entries:
        one = _instance(key, entry, usual)
        if not isinstance(one, kind):
            raise PipelineError(f"{key}: {entry[TARGET]} is no {kind.__module__}.{kind.__name__}; name a class of them")
        made.append(one)
    return made


def _instance(key: str, value: Any, usual: Mapping[str, Any]) -> Any:
    """What an entry stands for; arguments may be entries too, and all else is itself."""
    if isinstance(value, list):
        return [_instance(key, item, {}) for item in value]
    if not isinstance(value, Mapping):
        return value
    given = {name: _instance(key, item, {}) for name, item in value.items() if name != TARGET}
    if TARGET not in value:
        return given
    module, _, name = str(value[TARGET]).rpartition(".")
    try:
        target = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PipelineError(
            f"{key}: {value[TARGET]} cannot be imported ({printable(error)}); correct or install it"
        ) from None
    try:
        takes = inspect.signature(target).parameters if usual else {}
        return target(**{name: item for name, item in usual.items() if name in takes} | given)
    except (TypeError, ValueError, ImportError, MisconfigurationException) as error:
        raise PipelineError(f"{key}: {value[TARGET]} refuses its arguments: {printable(error)}") from None
