"""Models in MLflow's registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from modulefinder import ModuleFinder
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np

from pipeline.atomic import scratch_folder
from pipeline.errors import MissingError, PipelineError, hint, printable
from pipeline.tracking.location import Location, client, first_line

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model for MLflow's registry."""

    code: Path  # a module of this package that gives MLflow its model (`mlflow.models.set_model`)
    artifacts: Mapping[str, Path]  # files by name
    example: np.ndarray  # (1, H, W, C) uint8, one input; the model takes any number of them
    classes: Sequence[str]  # the model gives each a probability
    params: Mapping[str, str]  # that a request may set, with their defaults
    requirements: Sequence[str]  # for pip


def register(location: Location, name: str, run_id: str, model: Model) -> int:
    """Version of registered model `name` that belongs to the run; gets the alias `champion`.

    A run that has a version keeps it, unless its files are gone. A new version carries the code that it imports, so that it serves as it was
    registered, whatever becomes of the repository.
    """
    mlflow_client = client(location)
    versions = mlflow_client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    ready = [int(one.version) for one in versions if one.status == "READY" and _has_files(location, one)]
    number = max(ready) if ready else _new_version(mlflow_client, name, run_id, model)
    mlflow_client.set_registered_model_alias(name, "champion", str(number))
    return number


def load(location: Location, name: str) -> tuple[Any, int]:
    """The model object that the champion of registered model `name` made, and its version. Runs the code of the model.

    Raises:
        MissingError: no such model, or its files are gone.
        PipelineError: another version of this project registered it.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    again = f"{hint('ensemble')} registers it"
    try:
        version = client(location).get_model_version_by_alias(name, "champion").version
    except MlflowException:
        raise MissingError(f"MLflow has no champion of {name}; {again}") from None
    mlflow.set_tracking_uri(location.uri)
    try:
        model = mlflow.pyfunc.load_model(f"models:/{name}/{version}").unwrap_python_model()
    except (MlflowException, OSError) as error:
        raise MissingError(
            f"MLflow at {location.uri} lacks files of {name} version {version} ({first_line(error)}); {again} anew"
        ) from None
    except (ImportError, AttributeError, KeyError) as error:
        raise PipelineError(
            f"{name} version {version} was registered by another version of this project ({printable(error)}); {again} anew"
        ) from None
    return model, int(version)


def _has_files(location: Location, version: Any) -> bool:
    from mlflow.artifacts import list_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return bool(list_artifacts(artifact_uri=version.source, tracking_uri=location.uri))
    except (MlflowException, OSError):
        return False


def _new_version(mlflow_client: Any, name: str, run_id: str, model: Model) -> int:
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    experiment = mlflow_client.get_run(run_id).info.experiment_id
    for cut_off in mlflow_client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        mlflow_client.delete_logged_model(cut_off.model_id)  # by a call that ended before there was a version
    logged = mlflow_client.create_logged_model(experiment, name=name, source_run_id=run_id)
    with scratch_folder(next(iter(model.artifacts.values())).with_name("model")) as folder:
        _save(model, folder, logged, run_id)
        mlflow_client.log_model_artifacts(logged.model_id, f"{folder}/model")
    mlflow_client.finalize_logged_model(logged.model_id, "READY")
    mlflow_client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    try:
        mlflow_client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # The address, not models:/<id>: a local registry would look the id up in whatever store the environment names.
    made = mlflow_client.create_model_version(name, logged.artifact_location, run_id, model_id=logged.model_id)
    return int(made.version)


def _save(model: Model, folder: Path, logged: Any, run_id: str) -> None:
    """Writes the files of MLflow's pyfunc flavour to `folder`/model."""
    import mlflow.models
    from mlflow.pyfunc import save_model
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    for path in imports_of(model.code):
        copy = folder / path.relative_to(PACKAGE.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copyfile(path, copy)
    # As objects of any shape: for a narrower type, MLflow converts what a request holds before the model can check it, so
    # that 0.9 becomes 0.
    images = TensorSpec(np.dtype(object), (-1,))
    probabilities = [ColSpec("float", name) for name in model.classes]
    params = [ParamSpec(name, "string", default) for name, default in model.params.items()]
    save_model(
        str(folder / "model"),
        python_model=model.code,
        artifacts={name: str(path) for name, path in model.artifacts.items()},
        code_paths=[str(folder / PACKAGE.name)],
        pip_requirements=list(model.requirements),
        signature=mlflow.models.ModelSignature(Schema([images]), Schema([*probabilities]), ParamSchema(params)),
        input_example=model.example,
        mlflow_model=mlflow.models.Model(
            logged.artifact_location, run_id, model_uuid=logged.model_id, model_id=logged.model_id
        ),
    )


def imports_of(module: Path) -> set[Path]:
    """Every file of this package that `module` imports, through others and inside functions too."""
    finder = ModuleFinder(path=[str(PACKAGE.parent)])
    finder.run_script(str(module))
    files = (vars(entry)["__file__"] for entry in finder.modules.values())
    return {Path(file) for file in files if file and Path(file).is_relative_to(PACKAGE)} - {module}
