"""conf/, params.yaml and the command line become the values of one configuration; the only user of Hydra.

Plain `dvc repro` composes nothing itself, so composing is a stage: it writes composed.yaml and what each later stage reads.
Hydra composes the chosen files of conf/. Single values are merged afterwards: those of params.yaml literally, those of
the command line in Hydra's grammar.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.config import Config, defaults, kind_of, leaves
from pipeline.documents import KEY, check_files, first_lines, read_mapping
from pipeline.errors import PipelineError, printable

GROUPS = ("data", "recipe", "sweep", "cluster", "tracking")  # a choice names a file of conf/<group>/
SHORT = {"model": "family", "ensemble": "selection", "evaluation": "views"}  # model=vgg_small is model.family=vgg_small
# In the order of an experiment's name and command.
CHOICES = ("data", "model", "recipe", "sweep", "ensemble", "evaluation", "cluster", "tracking")
AUTO = "auto"  # in params.yaml: conf/ decides
NAME = "name"  # in params.yaml: the key of a section that names the file of conf/
OWN = ("folder", "boxes")  # files of conf/data/ that serve any data set, which takes its name from data.path
SPACES = ("sweep.space", "sweep.search.space")
_ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|zip)$", re.IGNORECASE)
_KEY = re.compile(rf"(?<=[\[,\s])({KEY.pattern})(?=[\],\s])")  # not in quotes
_GRAMMAR = re.compile(r"""^\s*["']|\\|\$\{""")  # a value in quotes, escapes and interpolations
_MARK = re.compile("\ue000(\\d+)\ue001")  # stands for a literal value while interpolations are resolved

Choices = dict[str, str]


def compose(root: Path, overrides: list[str], own: Path | None = None) -> dict[str, Any]:
    """Values of the configuration, Hydra's choices under `choices`; paths are still relative and nothing is checked.

    Args:
        root: holds conf/ and params.yaml.
        overrides: as on the command line; they win over params.yaml.
        own: a folder with further files for the groups of conf/.

    Raises:
        PipelineError: Hydra refuses a choice or a value, or params.yaml has the wrong form.
    """
    picked, values = _from_params(root / "params.yaml")
    chosen, given = _from_command_line(overrides)
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

    composed, choices = _composed(root, chosen, own)
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
    _require_one_name(values["model"], {**(literal or {}), **(given or {})})
    values["data"].setdefault("name", _data_name(choices["data"], values["data"]))
    return {**values, "choices": choices}


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


def choices(root: Path, own: Path | None = None) -> dict[str, list[str]]:
    """What `data=`, `recipe=`, `model=` and so on accept: files of conf/ and `own`, or the values of a section's main key."""
    from typing import get_args, get_type_hints

    def allowed(group: str) -> list[str]:
        if group in GROUPS:
            folders = (root / "conf", *([own] if own else []))
            return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})
        return list(get_args(get_type_hints(get_type_hints(Config)[group])[SHORT[group]]))

    return {group: allowed(group) for group in CHOICES}


def _from_params(path: Path) -> tuple[Choices, dict[str, Any]]:
    """Choices and single values of params.yaml; auto and null leave a key to conf/."""
    from dataclasses import fields

    params = read_mapping(path)
    any_key = params.pop("set", None) or {}
    if not isinstance(any_key, dict):
        raise PipelineError(f"{path.name}: set={any_key!r}; it takes keys and values, for example {{seed: 1}}")
    keys = [entry.name for entry in fields(Config) if entry.name != "choices"]
    if unknown := sorted(map(str, set(params) - set(keys))):
        raise PipelineError(
            f"{path.name} holds {', '.join(unknown)}; its keys are {', '.join(keys)} and set (a single value: set.model.depth)"
        )
    picked: Choices = {}
    values: dict[str, Any] = {}
    for key, value in params.items():
        choice, section = _section(path, key, value) if isinstance(value, dict) else (value, {})
        if key == "data" and choice in (None, AUTO):
            raise PipelineError(
                f"{path.name} holds data={choice or 'null'}, but dvc.yaml names files after the data set; name one (data: "
                "digits, or dvc exp run -S data=digits)"
            )
        values |= {name: item for name, item in leaves({key: section}) if item is not None}
        if choice not in (None, AUTO):
            _choose(key, choice, picked, values)
    return picked, values | dict(leaves(any_key))


def _choose(key: str, value: Any, picked: Choices, values: dict[str, Any]) -> None:
    """Puts `key=value` where it belongs: a file of conf/ among the choices, anything else among the values."""
    if key in GROUPS:
        picked[key] = str(value)
    else:
        values[f"{key}.{SHORT[key]}" if key in SHORT else key] = value


def _section(path: Path, key: str, section: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Choice and values of a section of params.yaml.

    A section without its choice lost it: `-S recipe=cifar_quick -S +recipe.lr=0.2` turns cifar_quick into {lr: 0.2}.
    """
    main = NAME if key in GROUPS else SHORT.get(key)
    if key == "data":
        words = " ".join(f"-S ++set.data.{name}={value}" for name, value in section.items())
        raise PipelineError(
            f"{path.name} holds data={section!r}; data takes only a name, and its values belong under set: "
            f"dvc exp run -S data=digits {words}, with the name of your data set in place of digits"
        )
    if main and main not in section:
        keys = ", ".join(f"{key}.{name}" for name in section) or "nothing"
        raise PipelineError(
            f"{path.name} holds {keys} and no {key}.{main}; write the choice as {key}.{main} beside such values: "
            f"dvc exp run -S ++{key}.{main}={AUTO}, with the name that you chose in place of {AUTO}"
        )
    return (section.get(main) if main else None), {name: value for name, value in section.items() if name != main}


def require_no_lost_value(words: Sequence[str]) -> None:
    """Checks the words of DVC's command: `-S recipe=x` replaces the section, with the values set earlier on the line.

    Only the command line still shows the lost values. The suggested spelling, with ++, works on the params.yaml that the
    refused command leaves. Of a queued experiment (`dvc exp run --queue`) the stages cannot see the command line.

    Raises:
        PipelineError: a choice follows a value of its section.
    """
    settings = [word.lstrip("+") for flag, word in pairwise(words) if flag in ("-S", "--set-param")]
    settings += [word.split("=", 1)[1].lstrip("+") for word in words if word.startswith("--set-param=")]
    for at, setting in enumerate(settings):
        key, _, choice = setting.partition("=")
        lost = [earlier for earlier in settings[:at] if earlier.startswith(f"{key}.")]
        if key in CHOICES and lost:
            spelling = " ".join(f"-S ++{word}" for word in (f"{key}.{SHORT.get(key, NAME)}={choice}", *lost))
            raise PipelineError(f"-S {setting} drops {' and '.join(lost)}, set before it; write {spelling}")


def _from_command_line(overrides: list[str]) -> tuple[Choices, dict[str, Any]]:
    """Choices and single values of Hydra's overrides."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    chosen: Choices = {}
    values: dict[str, Any] = {}
    for override in overrides:
        if not re.match(r"~|\+*[^+=][^=]*=", override):
            raise PipelineError(f"{printable(override)} is no override; write key=value, such as seed=1")
        key, text = override.lstrip("+").partition("=")[::2]
        _require_whole_space(key, overrides)
        # Hydra's grammar knows neither ~ nor letters beyond ASCII; a text that has nothing of the grammar is taken as it is.
        is_text = kind_of(Config, key) is str or (key in CHOICES and not re.search("[,{]", text))
        if text and is_text and not _GRAMMAR.search(text) and text.lower() != "null":
            _choose(key, text.strip(), chosen, values)
            continue
        keys = kind_of(Config, key) == list[str]  # of runs, which may look like numbers
        try:
            parsed = OverridesParser.create().parse_override(_KEY.sub(r"'\g<0>'", override) if keys else override)
            key, value = parsed.key_or_group, parsed.value()
        except (HydraException, RecursionError, ValueError) as error:
            raise PipelineError(f"{printable(override)}: {first_lines(error)}") from None
        if parsed.is_sweep_override() and "." in key:
            raise PipelineError(f"{printable(override)}: give a key one value, or run `{as_sweep(overrides)}`")
        if parsed.is_delete() or parsed.is_sweep_override():
            raise PipelineError(f"{printable(override)}: give a key one value (override: {key}=...)")
        section = isinstance(value, dict) and kind_of(Config, key) is None  # whose other keys stay as they are
        for name, item in leaves({key: value}) if section else [(key, value)]:
            _choose(name, item, chosen, values)
    return chosen, values


def _require_whole_space(key: str, overrides: list[str]) -> None:
    """Raises PipelineError for a key below a space, whose own keys have dots in them."""
    space = next((space for space in SPACES if key.startswith(f"{space}.")), "")
    if space:
        given = [word.lstrip("+").partition("=") for word in overrides if word.lstrip("+").startswith(f"{space}.")]
        keys = (f"{name[len(space) + 1 :]}:{text if text[:1] in '[{' else f'[{text}]'}" for name, _, text in given)
        advice = shlex.quote(f"{space}={{{','.join(keys)}}}")
        raise PipelineError(
            f"{printable(key)} is no key; {space} is one value, with all that it varies (override: {advice})"
        )


def as_sweep(overrides: Sequence[str]) -> str:
    """The command that trains each combination of overrides such as `model.depth=20,32`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    space, others = [], []
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
            varied = parsed.is_sweep_override() and not parsed.is_delete() and "." in parsed.key_or_group
        except (HydraException, RecursionError, ValueError):  # as of ~, see `_from_command_line`
            varied = False
        if varied:
            space.append(f"{parsed.key_or_group}:[{','.join(map(str, parsed.sweep_iterator()))}]")
        elif not override.startswith("-"):
            others.append(override)
    given = ",".join(space) or "model.depth:[20,32],recipe.lr:[0.1,0.05]"
    return shlex.join(["pipeline", "sweep", f"sweep.space={{{given}}}", *others])


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
