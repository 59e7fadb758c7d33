"""The chosen files of conf/ and single values become the values of one configuration.

Plain `dvc repro` composes nothing itself, so composing is a stage: it writes composed.yaml and what each later stage reads.
Hydra composes the chosen files of conf/. Single values are merged afterwards: those of params.yaml literally, those of
the command line in Hydra's grammar.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pipeline.compose.choices import GROUPS, Choices, choices
from pipeline.compose.overrides import from_overrides
from pipeline.compose.params import from_params
from pipeline.config import Config, defaults
from pipeline.config.space import no_key
from pipeline.documents import check_files, first_lines
from pipeline.errors import PipelineError, printable

OWN = ("folder", "boxes")  # files of conf/data/ that serve any data set, which takes its name from data.path
_ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|zip)$", re.IGNORECASE)
_MARK = re.compile("\ue000(\\d+)\ue001")  # stands for a literal value while interpolations are resolved


def compose(root: Path, overrides: list[str], own: Path | None = None) -> dict[str, Any]:
    """Values of the configuration, Hydra's choices under `choices`; paths are still relative and nothing is checked.

    Args:
        root: holds conf/ and params.yaml.
        overrides: as on the command line; they win over params.yaml.
        own: a folder with further files for the groups of conf/.

    Raises:
        PipelineError: Hydra refuses a choice or a value, or params.yaml has the wrong form.
    """
    picked, values = from_params(root / "params.yaml")
    chosen, given = from_overrides(overrides)
    return compose_conf(root, picked | chosen, values, given, own)


def compose_conf(
    root: Path,
    chosen: Choices,
    literal: dict[str, Any] | None = None,
    given: dict[str, Any] | None = None,
    own: Path | None = None,
) -> dict[str, Any]:
    """As `compose`, from choices and values by dotted key. `given` wins; interpolations in `literal` are not resolved."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    composed, made = _composed(root, chosen, own)
    literals = list((literal or {}).values())
    marked = {key: f"\ue000{index}\ue001" for index, key in enumerate(literal or {})}
    try:
        merged = OmegaConf.merge(defaults(Config), composed)
        for key, value in (marked | (given or {})).items():
            OmegaConf.update(merged, key, value, merge=False, force_add=True)
        values = _unmarked(OmegaConf.to_container(merged, resolve=True, throw_on_missing=True), literals)
    except (HydraException, OmegaConfBaseException, RecursionError, ValueError, TypeError) as error:
        # The latter two are what OmegaConf lets through where a value stands in place of a section.
        raise PipelineError(first_lines(error)) from None
    keys = {**(literal or {}), **(given or {})}
    if recorded := next((key for key in keys if key.partition(".")[0] == "choices"), None):
        raise PipelineError(f"{printable(recorded)} {no_key(recorded)}")
    # What stands in place of a section is refused with the rest of the values.
    if isinstance(values["model"], dict):
        _require_one_name(values["model"], keys)
    if isinstance(values["data"], dict):
        values["data"].setdefault("name", _data_name(made["data"], values["data"]))
    return {**values, "choices": made}


def _require_one_name(model: dict[str, Any], keys: dict[str, Any]) -> None:
    """Raises PipelineError if single values give a detector's net in other words than model.backbone, which would win in silence."""
    from pipeline.config.model import DECIDED, DETECTORS

    given = sorted(keys.keys() & {f"model.{key}" for key in DECIDED})
    if model.get("family") in DETECTORS and given:
        kind = "plain" if keys.get("model.residual") is False else "resnet"
        raise PipelineError(
            f"{' and '.join(given)} with model={model['family']}, whose net model.backbone names; give that alone "
            f"(override: model.backbone={kind}{keys.get('model.depth', 56)})"
        )


def _composed(root: Path, chosen: Choices, own: Path | None) -> tuple[Any, Choices]:
    """What the chosen files of conf/ come to, and all choices, those that conf/ makes itself included."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.override_parser.types import Quote, QuotedString
    from omegaconf import OmegaConf

    def quoted(text: str) -> str:
        return QuotedString(text, Quote.single).with_quotes()

    folder = root / "conf"
    check_files(folder)
    if own is not None:
        _check_own(folder, own)
    for group, name in chosen.items():
        if name not in (files := choices(root, own)[group]):
            file = f"conf/{group}/{printable(name)}.yaml"
            raise PipelineError(f"{group}={printable(name)}: there is no {file}; choose one of {', '.join(files)}")
    try:
        with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
            words = [f"{group}={quoted(name)}" for group, name in chosen.items()]
            words += [f"hydra.searchpath=[{quoted(f'file://{own.resolve()}')}]"] if own else []
            composed = hydra_compose("config", words, return_hydra_config=True)
        OmegaConf.set_struct(composed, False)
        made = {group: composed.hydra.runtime.choices[group] for group in GROUPS}
        del composed["hydra"]
    except Exception as error:  # Hydra meets odd files with errors of many kinds
        raise PipelineError(
            f"the files of conf/ do not compose: {first_lines(error)}; correct them, or restore them: git restore conf"
        ) from None
    return composed, made


def _check_own(conf: Path, own: Path) -> None:
    """Raises PipelineError unless the folder holds files for the groups of conf/ alone, under names of their own."""
    if not own.is_dir():
        raise PipelineError(
            f"--config-dir {printable(own)} is no folder; name one with files such as data/birds.yaml in it"
        )
    check_files(own)
    for path in sorted(own.rglob("*.yaml")):
        name = path.relative_to(own)
        if name.parent.name not in GROUPS or len(name.parts) != 2:
            raise PipelineError(
                f"--config-dir {printable(own)} holds {printable(name)}; its files lie in {', '.join(f'{g}/' for g in GROUPS)}"
            )
        if (conf / name).exists():
            raise PipelineError(
                f"{printable(path)} has the name of a file of conf/; rename it, so that a choice has one meaning"
            )


def _unmarked(value: Any, literals: list[Any]) -> Any:
    """`value` with the literals in place of their marks."""
    if isinstance(value, dict):
        return {_unmarked(key, literals): _unmarked(item, literals) for key, item in value.items()}
    if isinstance(value, list):
        return [_unmarked(item, literals) for item in value]
    if not isinstance(value, str):
        return value
    if whole := _MARK.fullmatch(value):
        return literals[int(whole[1])]
    return _MARK.sub(lambda mark: str(literals[int(mark[1])]), value)


def _data_name(choice: str, data: dict[str, Any]) -> str:
    path = str(data.get("path") or "")
    return _ARCHIVE.sub("", Path(path).name) if choice in OWN and path else choice
