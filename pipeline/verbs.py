"""The verbs of `pipeline`, and what --help says of all of them and of each."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

WIDTH = 120  # characters of a line
_DATA = ("data",)
_TRAINING = ("data", "model", "recipe", "start", "trainer", "tracking")


@dataclass(frozen=True)
class Verb:
    about: str
    examples: tuple[str, ...]
    words: str = ""  # that follow it, as the usage line shows them
    keys: str = ""  # section whose keys its help explains
    sections: tuple[str, ...] = ()  # whose keys decide what it does, besides
    actions: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # word: module of pipeline.stages, about
    resumes: bool = False  # goes on from what it had done when it was interrupted; others start again
    stops: bool = False  # handles signals by itself
    files: bool = False  # its words are files
    # Whether it takes detectors, and by the module of its name in pipeline/stages/detection/.
    detectors: Literal["alike", "apart", "none"] = "alike"


VERBS = {
    "compose": Verb(
        "check conf/, params.yaml and overrides; write composed.yaml",
        ("pipeline compose data=cifar10 model.depth=56",),
        sections=_TRAINING,
    ),
    "fetch": Verb(
        "download or locate the published files and verify them -> data/raw/<name>/",
        ("pipeline fetch data=cifar10", "pipeline fetch data=folder data.path=/data/flowers"),
        keys="data",
        resumes=True,
    ),
    "preprocess": Verb(
        "make arrays or shards, splits and statistics -> data/store/<name>/",
        ("pipeline preprocess data=cifar10",),
        keys="data",
    ),
    "pretrain": Verb(
        "train the nets that start.weights=sweep:NAME starts from -> experiments/<name>/pretrained.json",
        ("pipeline pretrain data=digit_scenes start.weights=sweep:digit_objects",),
        keys="start",
        sections=("data", "trainer", "tracking", "cluster"),
        resumes=True,
    ),
    "train": Verb(
        "start or resume one training -> experiments/<name>/train.json",
        (
            "pipeline train data=cifar10 recipe=cifar_quick",
            "pipeline train data=cifar10 model.depth=56 model.residual=false seed=1",
            "pipeline train data=cifar10 trainer.debug=overfit",
        ),
        keys="trainer",
        sections=(*_TRAINING, "cluster"),
        resumes=True,
        stops=True,
    ),
    "sweep": Verb(
        "search sweep.space with Ray Tune -> experiments/<name>/leaderboard.json",
        (
            "pipeline sweep data=cifar10 recipe=cifar_fast sweep=cifar_gain",
            "pipeline sweep 'sweep.space={model.depth:[20,56],recipe.lr:[0.1,0.05]}'",
            "pipeline sweep status",
        ),
        keys="sweep",
        sections=(*_TRAINING, "cluster"),
        actions={
            "status": ("watch", "print what the running sweep, or the last one, came to"),
            "stop": ("watch", "ask the running sweep to end; it can be resumed"),
            "retry": ("watch", "repeat the last sweep's failed trials; give that sweep's overrides"),
        },
        resumes=True,
        stops=True,
    ),
    "adopt": Verb(
        "register weights from elsewhere (start.weights) as a run that ensembles may take",
        ("pipeline adopt data=cifar10 data.split=full model.depth=56 start.weights=resnet56.th",),
        keys="start",
        sections=("data", "model", "recipe", "tracking"),
        detectors="none",
    ),
    "ensemble": Verb(
        "average the best runs in MLflow -> experiments/<name>/ensemble/",
        ("pipeline ensemble data=cifar10", "pipeline ensemble data=cifar10 ensemble=top_k ensemble.size=3"),
        keys="ensemble",
        sections=("data", "tracking"),
        resumes=True,
        detectors="apart",
    ),
    "evaluate": Verb(
        "measure test errors of members and ensemble -> experiments/<name>/evaluate.json",
        ("pipeline evaluate data=cifar10", "pipeline evaluate data=cifar10 evaluation.runs=all"),
        keys="evaluation",
        sections=("data", "tracking"),
        resumes=True,
        detectors="apart",
    ),
    "report": Verb(
        "write figures, tables and claims -> experiments/<name>/report/index.html",
        ("pipeline report data=cifar10",),
        sections=("data", "tracking"),
        detectors="apart",
    ),
    "summary": Verb(
        "print members, ensemble and the report's path", ("pipeline summary data=cifar10",), sections=_DATA
    ),
    "publish": Verb(
        "add this result to results/ and to the README's table",
        ("pipeline publish data=cifar10", "pipeline publish weights ResNet-20 data=cifar10"),
        sections=_DATA,
        actions={
            "weights": ("publish", "copy the nets that evaluate tested, or the one called NAME, to results/weights")
        },
        detectors="apart",
    ),
    "predict": Verb(
        "name the classes of images (files, folders, 'globs') or find objects, by the registered ensemble or predict.weights",
        (
            "pipeline predict photos/ data=cifar10",
            "pipeline predict cat.png dog.png predict.weights=best.safetensors predict.output=json",
            "pipeline predict photos/ predict.weights=run:93c0a5577484 predict.draw=boxes/",
        ),
        words="IMAGE ...",
        keys="predict",
        sections=("data", "tracking"),
        files=True,
    ),
    "export": Verb(
        "write a net or the ensemble as ONNX or as a program of torch.export",
        ("pipeline export data=cifar10 export.path=ensemble.onnx",),
        keys="export",
        sections=("data", "tracking"),
        detectors="none",
    ),
    "serve": Verb(
        "answer HTTP requests with the registered ensemble",
        ("pipeline serve data=cifar10", "pipeline serve data=cifar10 serve.port=8080"),
        keys="serve",
        sections=("data", "tracking"),
        detectors="apart",
        stops=True,
    ),
    "keys": Verb(
        "explain the configuration: `pipeline keys recipe`, `pipeline keys trainer.compile`, or all of it",
        ("pipeline keys", "pipeline keys recipe trainer.compile"),
        words="[SECTION | KEY ...]",
    ),
    "completion": Verb(
        "print the script that completes words in a shell: bash, zsh or fish",
        ('eval "$(pipeline completion bash)"',),
        words="bash | zsh | fish",
    ),
    "sync": Verb(
        "make MLflow have all that the journals hold; restore runs that were deleted there",
        ("pipeline sync",),
        keys="tracking",
        sections=("cluster",),
        resumes=True,
    ),
}
OPTIONS = {
    "--cfg job": "print the composed configuration and stop",
    "--config-dir DIR": "add files of your own to the choices: DIR/data/*.yaml, DIR/recipe/*.yaml and so on",
    "--config FILE": "read a composed configuration (composed.yaml) instead of conf/, params.yaml and overrides",
    "--debug": "print tracebacks",
    "--version": "print the version",
}


def help_for_all(choices: Mapping[str, Sequence[str]]) -> str:
    """What `pipeline --help` prints.

    Args:
        choices: files of conf/ by group.
    """
    verbs: dict[str, str] = {}
    for name, verb in VERBS.items():
        verbs |= {name: verb.about} | {f"{name} {word}": about for word, (_, about) in verb.actions.items()}
    lines = [
        "usage: pipeline VERB [WORD ...] [key=value ...] [--config-dir DIR | --config FILE] [--cfg job] [--debug]",
        "",
        *_columns(verbs, 13),
        "",
        *_columns(OPTIONS, 17),
        "",
        "choices:",
        *_choices(choices),
        "",
        "single values: model.depth=56 recipe.lr=0.05 trainer.devices=2 seed=1; all keys: pipeline keys",
        "a verb's own words, keys and examples: pipeline VERB --help",
    ]
    return "\n".join(lines)


def help_for(name: str, choices: Mapping[str, Sequence[str]]) -> str:
    """What `pipeline VERB --help` prints; see `help_for_all`."""
    verb = VERBS[name]
    words = " | ".join(f"{word} [NAME]" for word in verb.actions)
    usage = " ".join(filter(None, ["pipeline", name, verb.words or (f"[{words}]" if words else "")]))
    lines = [f"usage: {usage} [key=value ...] [option ...]", "", verb.about, "", "examples:"]
    lines += [f"  {example}" for example in verb.examples]
    if verb.actions:
        lines += ["", "actions:", *_columns({word: about for word, (_, about) in verb.actions.items()}, 8)]
    if verb.keys:
        lines += ["", "keys:", *_columns(dict(_meanings(verb.keys)), 29)]
    others = [section for section in verb.sections if section != verb.keys]
    if others:
        lines += ["", "more keys, which `pipeline keys SECTION` explains: " + ", ".join(f"{one}.*" for one in others)]
    chosen = {
        group: names for group, names in choices.items() if group in (verb.keys, *verb.sections) or group == "data"
    }
    if verb.keys or verb.sections:
        lines += ["", "choices:", *_choices(chosen)]
    return "\n".join([*lines, "", "options:", *_columns(OPTIONS, 17)])


def _meanings(section: str) -> Iterator[tuple[str, str]]:
    from pipeline.config.reference import parts

    for part in parts():
        if part.name == section:
            for key in part.keys:
                default = f" (default: {key.default})" if key.default else ""
                yield key.name, f"{key.kind}{default}: {key.meaning}" if key.meaning else f"{key.kind}{default}"


def _columns(texts: Mapping[str, str], width: int) -> Iterator[str]:
    for name, text in texts.items():
        wrapped = textwrap.wrap(text, WIDTH - width - 3) or [""]
        yield f"  {name:<{width}} {wrapped[0]}"
        yield from (" " * (width + 3) + line for line in wrapped[1:])


def _choices(choices: Mapping[str, Sequence[str]]) -> Iterator[str]:
    return (f"  {group}={'|'.join(names)}" for group, names in choices.items())
