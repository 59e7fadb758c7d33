"""Weights that a training starts from, or that are adopted: a file, a run, torchvision's published ones."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.mapping import head_name, mapped, state_in
from pipeline.tracking.store import Location
from pipeline.training.checkpoint import BEST

RUN, TORCHVISION = "run:", "torchvision:"


def anchored(weights: str, root: Path) -> str:
    """start.weights with a file by its whole path: ranks and trials run in other folders."""
    return weights if not weights or weights.startswith((RUN, TORCHVISION)) else str((root / weights).resolve())


@dataclass(frozen=True)
class Start:
    """Weights by name as their maker called them."""

    source: str  # as configured
    state: dict[str, Tensor]

    @property
    def fingerprint(self) -> str:
        """12 hex digits of names, shapes and values, wherever they lay and in whatever form."""
        digest = hashlib.sha256()
        for name in sorted(self.state):
            tensor = self.state[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:12]

    def load_into(self, model: nn.Module, head: bool) -> None:
        """Copies the weights into `model`, without its last layer's unless `head`.

        Raises:
            ValueError: they do not fit, with the names that do not.
        """
        try:
            model.load_state_dict(mapped(self.state, model, head))
        except ValueError as error:
            raise ValueError(f"start.weights={self.source} do not fit the net: {error}") from None


def starting_point(source: str, runs: Path, location: Location | None) -> Start | None:
    """The weights that start.weights names; None for "".

    Args:
        runs: folder of all runs, paths.runs.
        location: MLflow, which is asked for a run that is not in `runs`.
    Raises:
        FileNotFoundError: no such file or run.
        ValueError: no weights in it, or none that can be read without running its code.
    """
    if not source:
        return None
    if source.startswith(TORCHVISION):
        return Start(source, _published(source.removeprefix(TORCHVISION)))
    if not source.startswith(RUN):
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"start.weights={source}: no such file; {_allowed()}")
        return Start(source, read_weights(path))
    run = source.removeprefix(RUN)
    local = runs / run / BEST
    if run and local.is_file():
        return Start(source, read_weights(local))
    with TemporaryDirectory() as folder:
        return Start(source, read_weights(_tracked(run, location, Path(folder), runs)))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights by name in a file of torch.save or safetensors; never runs code that the file brings.

    Raises:
        ValueError: it cannot be read so, or holds no weights by name.
    """
    from safetensors import SafetensorError

    try:
        if _is_safetensors(path):
            from safetensors.torch import load_file

            loaded: Any = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise ValueError(
            f"{path} cannot be read without running code of its own ({reason[:150]}); save the net's state_dict() alone, "
            "or convert it to safetensors"
        ) from None
    except (RuntimeError, EOFError, OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {(str(error).splitlines() or ['unknown'])[0][:150]}") from None
    try:
        return state_in(loaded)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def freeze_backbone(model: nn.Module) -> None:
    """Every layer but the last learns nothing more; batch norm keeps its statistics, see `Classifier`."""
    last = head_name(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.rsplit(".", 1)[0] == last)


def _is_safetensors(path: Path) -> bool:
    """Whether the file starts as safetensors do: the header's length, then its JSON."""
    with path.open("rb") as stream:
        return stream.read(9)[8:] == b"{"


def _published(name: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights, get_weight, list_models

    try:
        weights = get_weight(name) if "." in name else get_model_weights(name).DEFAULT
    except (KeyError, ValueError, AttributeError):
        known = ", ".join(list_models(include=["resnet*", "vgg*", "alexnet", "googlenet"]))
        raise ValueError(
            f"start.weights={TORCHVISION}{name}: torchvision has no such weights; a model ({known}) or a name such as "
            "ResNet50_Weights.IMAGENET1K_V1"
        ) from None
    try:
        return dict(
            torch.hub.load_state_dict_from_url(weights.url, map_location="cpu", check_hash=True, weights_only=True)
        )
    except OSError as error:
        raise ValueError(
            f"{weights.url} cannot be fetched ({error}); download it elsewhere and name the file"
        ) from None


def _tracked(run: str, location: Location | None, folder: Path, runs: Path) -> Path:
    if location is None:
        raise FileNotFoundError(f"{runs / run / BEST} is missing; {_allowed()}")
    # Imported here: training from a file needs no MLflow.
    from pipeline.tracking import registry

    try:
        found = registry.download(location, registry.run_of(location, run), f"checkpoints/{BEST}", folder / "download")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"start.weights={RUN}{run}: {runs / run / BEST} is missing, and {error}") from None
    return Path(shutil.move(found, folder / BEST))


def _allowed() -> str:
    return f"give a file, {RUN}<key or MLflow's id of a run>, or {TORCHVISION}<name>"
