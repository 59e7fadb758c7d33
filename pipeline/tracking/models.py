"""Models in MLflow: that of each training, and the ensembles in its registry."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.atomic import read_json, scratch_folder
from pipeline.errors import MissingError, first_line, hint
from pipeline.tracking.kinds import PACKAGE, kind_of
from pipeline.tracking.location import Location, client

DESCRIPTION = "ensemble"  # name of the description among the files; the others are weights by their sha256
PARAMS = {"pixels": "uint8"}  # that a request may set, with their defaults
WEIGHTS_TAG = "pipeline.checkpoint_sha256"  # of a logged model
OF_RUN = "model"  # name of a training's model: runs:/<id>/model
_IMPORT = re.compile(rf"^(\s*(?:from|import)\s+){PACKAGE.name}\b", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A net or an ensemble as a model for MLflow, of the kind that its description names."""

    served: Path  # JSON, see `pipeline.run.served.description`
    weights: Mapping[str, Path]  # by their sha256
    example: np.ndarray  # (1, H, W, C) uint8, one input; the model takes any number of them


def net_model(served: Path, weights: Mapping[str, Path]) -> Model:
    """The model of one net; its example is the mean image."""
    description = read_json(served)
    (statistics,) = description["statistics"].values()
    mean = np.rint(255 * np.array(statistics["mean"])).astype(np.uint8)
    example = np.broadcast_to(mean, (1, *description["shape"])).copy()
    return Model(served=served, weights=weights, example=example)


def keep(mlflow_client: Any, run_id: str, model: Model) -> None:
    """Makes `model` the run's own. One of the same weights stays, whatever its code: it may be registered. Others go."""
    same = False
    for logged in _logged(mlflow_client, mlflow_client.get_run(run_id)):
        if _is_kept(mlflow_client, logged, model.weights):
            same = True
        else:
            mlflow_client.delete_logged_model(logged.model_id)  # of other weights, without files, or of a call cut off
    if not same:
        _log(mlflow_client, OF_RUN, run_id, model, {WEIGHTS_TAG: _names(model.weights)})


def keeps(mlflow_client: Any, run: Any, weights: Mapping[str, Path]) -> bool:
    """Whether `run` has a model of these weights that `keep` would leave to it."""
    return any(_is_kept(mlflow_client, logged, weights) for logged in _logged(mlflow_client, run))


def _logged(mlflow_client: Any, run: Any) -> Any:
    return mlflow_client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")


def _is_kept(mlflow_client: Any, logged: Any, weights: Mapping[str, Path]) -> bool:
    """Whether a logged model is a run's own, of these weights, all of which it has in their full length."""
    if (logged.name, logged.status, logged.tags.get(WEIGHTS_TAG)) != (OF_RUN, "READY", _names(weights)):
        return False
    files = mlflow_client.list_logged_model_artifacts(logged.model_id, "artifacts")
    sizes = {Path(file.path).name: file.file_size for file in files}
    return all(sizes.get(path.name) == path.stat().st_size for path in weights.values())


def _names(weights: Mapping[str, Path]) -> str:
    return ",".join(sorted(weights))


def register(location: Location, name: str, run_id: str, model: Model) -> int:
    """Version of registered model `name` that belongs to the run; gets the alias `champion`.

    A run that has a version keeps it if it still loads. A new version carries the code that it imports, so that it serves as
    it was registered, whatever becomes of the repository.
    """
    mlflow_client = client(location)
    versions = mlflow_client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    ready = sorted((int(one.version) for one in versions if one.status == "READY"), reverse=True)
    kept = next((number for number in ready if _loads(location, name, number)), None)
    number = kept or _new_version(mlflow_client, name, run_id, model)
    mlflow_client.set_registered_model_alias(name, "champion", str(number))
    return number


def describe(location: Location, name: str, number: int, text: str) -> None:
    """Sets the description of a registered version; raises whatever MLflow raises."""
    client(location).update_model_version(name, str(number), text)


def load(location: Location, name: str, device: str = "auto") -> tuple[Any, int]:
    """The model object that the champion of registered model `name` made, and its version. Runs the code of the model.

    Args:
        device: cpu, cuda, or auto, a GPU if there is one.
    Raises:
        MissingError: no such model, files of it are gone or damaged, or its code does not run with the libraries of today.
    """
    from mlflow.exceptions import MlflowException

    try:
        number = int(client(location).get_model_version_by_alias(name, "champion").version)
    except MlflowException:
        raise MissingError(f"MLflow has no champion of {name}; {hint('ensemble')} registers it") from None
    return _loaded(location, name, number, device), number


def _loaded(location: Location, name: str, number: int, device: str = "auto") -> Any:
    """The model object of a version; raises MissingError, see `load`."""
    import mlflow

    mlflow.set_tracking_uri(location.uri)
    try:
        model = mlflow.pyfunc.load_model(f"models:/{name}/{number}", model_config={"device": device})
        return model.unwrap_python_model()
    except (MemoryError, RuntimeError):  # of this machine: torch raises the latter where memory runs out
        raise
    except Exception as error:  # of MLflow, or whatever damaged files and code of other versions raise
        # What the import has left of the package would be taken for that of a new version, which has the same name.
        for module in [module for module in sys.modules if module.startswith(f"{PACKAGE.name}_")]:
            del sys.modules[module]
        raise MissingError(
            f"{name} version {number} cannot be loaded from MLflow at {location.uri} ({first_line(error)}); "
            f"{hint('ensemble')} registers it anew"
        ) from None


def _loads(location: Location, name: str, number: int) -> bool:
    try:
        _loaded(location, name, number)
    except MissingError:
        return False
    return True


def _new_version(mlflow_client: Any, name: str, run_id: str, model: Model) -> int:
    from mlflow.exceptions import MlflowException

    for useless in _logged(mlflow_client, mlflow_client.get_run(run_id)):  # that of a version which does not load
        mlflow_client.delete_logged_model(useless.model_id)  # or of a call that ended before there was a version
    logged = _log(mlflow_client, name, run_id, model, {})
    try:
        mlflow_client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # The address, not models:/<id>: a local registry would look the id up in whatever store the environment names.
    made = mlflow_client.create_model_version(name, logged.artifact_location, run_id, model_id=logged.model_id)
    return int(made.version)


def _log(mlflow_client: Any, name: str, run_id: str, model: Model, tags: dict[str, str]) -> Any:
    """MLflow's new model of the run."""
    from mlflow.entities import LoggedModelOutput

    experiment = mlflow_client.get_run(run_id).info.experiment_id
    logged = mlflow_client.create_logged_model(experiment, name=name, source_run_id=run_id, tags=tags)
    with scratch_folder(model.served.with_name("model")) as folder:
        _save(model, folder, logged, run_id)
        mlflow_client.log_model_artifacts(logged.model_id, f"{folder}/model")
    mlflow_client.finalize_logged_model(logged.model_id, "READY")
    mlflow_client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged


def _save(model: Model, folder: Path, logged: Any, run_id: str) -> None:
    """Writes the files of MLflow's pyfunc flavour to `folder`/model."""
    import mlflow.models
    from mlflow.pyfunc import save_model
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    description = read_json(model.served)
    kind = kind_of(description)
    package, sources = _code(kind.code)
    for path, text in sources.items():
        copy = folder / package / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    # As objects of any shape: for a narrower type, MLflow converts what a request holds before the model can check it, so
    # that 0.9 becomes 0.
    images = TensorSpec(np.dtype(object), (-1,))
    answer = [ColSpec(type_, name) for name, type_ in kind.columns(description["classes"]).items()]
    params = [ParamSpec(name, "string", default) for name, default in PARAMS.items()]
    files = {**model.weights, DESCRIPTION: model.served}
    with _importable(folder):
        save_model(
            str(folder / "model"),
            python_model=folder / package / kind.code.relative_to(PACKAGE),
            artifacts={name: str(path) for name, path in files.items()},
            code_paths=[str(folder / package)],
            pip_requirements=[f"{needed}=={version(needed).split('+')[0]}" for needed in kind.needs],
            signature=mlflow.models.ModelSignature(Schema([images]), Schema([*answer]), ParamSchema(params)),
            input_example=model.example,
            model_config={"device": "auto"},
            mlflow_model=mlflow.models.Model(
                logged.artifact_location, run_id, model_uuid=logged.model_id, model_id=logged.model_id
            ),
        )


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """For the block, in which MLflow runs the code of the model once."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@cache
def _code(module: Path) -> tuple[str, dict[Path, str]]:
    """The code that a model carries, `module` and what this imports: the name of its package and the text of each file.

    The name is the code's own, so that neither a user's `pipeline.py` nor another version of this project is taken for it.
    """
    files = {path: path.read_text(encoding="utf-8") for path in sorted({module, *imports_of(module)})}
    package = f"{PACKAGE.name}_{hashlib.sha256(json.dumps([*files.values()]).encode()).hexdigest()[:12]}"
    return package, {path: _IMPORT.sub(rf"\g<1>{package}", text) for path, text in files.items()}


def imports_of(module: Path) -> set[Path]:
    """Every file of this package that `module` imports, through others and inside functions too."""
    finder = ModuleFinder(path=[str(PACKAGE.parent)])
    finder.run_script(str(module))
    files = (vars(entry)["__file__"] for entry in finder.modules.values())
    return {Path(file) for file in files if file and Path(file).is_relative_to(PACKAGE)} - {module}
