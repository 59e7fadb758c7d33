"""The model card of an ensemble: what it is, how it was made, how often it errs, what it is for and what not.

The form follows Mitchell et al. 2019 (arXiv 1810.03993).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.data.facts import num_training
from pipeline.data.store import Manifest
from pipeline.ensemble.register import model_name
from pipeline.record import Net

if TYPE_CHECKING:
    from pipeline.ensemble.build import Ensemble

NAME = "card.md"
LISTED = 12  # members, and classes; MLflow takes 5,000 characters
MOST = 5000


_USE = (
    "",
    "## Use",
    "",
    "For research on these images, and as an example. An image becomes grey or RGB and is cut and resized as the training "
    "images were; pixels are integers from 0 to 255.",
    "",
    "## Limits",
    "",
)
_LIMITS = (
    "It always names one of its classes, also for an image of none of them. Errors hold for images drawn as the test images "
    "were; for others they are not known. Whatever bias the data set has, the nets have too."
)


def card(ensemble: Ensemble, manifest: Manifest, tested: Mapping[str, Any] | None = None) -> str:
    """Markdown of at most MOST characters.

    Args:
        tested: the content of evaluate.json; None before evaluation.
    """
    name, counts = model_name(manifest.name), manifest.counts
    validation = manifest.split["num_val"]
    lines = [
        f"# {name}",
        "",
        f"Averages the class probabilities of {_nets(ensemble.size)}{paper(ensemble.members)}, {_choice(ensemble)}.",
        "",
        "## Data",
        "",
        f"{manifest.name}, content {manifest.content_hash[:12]}: {counts['train']:,} training images, of which {validation:,} "
        f"validate, and {counts['test']:,} test images. {len(manifest.classes)} classes: {_listed(manifest.classes)}.",
        "",
        "## Members",
        "",
        "| net | steps | learning rate | seed | weight | validation error | run |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        *(_member(net) for net in ensemble.members[:LISTED]),
        *([f"and {ensemble.size - LISTED} more"] if ensemble.size > LISTED else []),
        "",
        "Each run has its configuration as `config/config.yaml` in MLflow.",
        "",
        "## Errors",
        "",
        f"Validation error of the average: {percent(ensemble.val_err1)}.",
        *(
            _tested(tested)
            if tested
            else ["Test images have not been opened yet; `pipeline evaluate` measures the error."]
        ),
        *_USE,
        f"{_LIMITS} Probabilities are calibrated only where members have temperatures other than 1.",
        "",
    ]
    text = "\n".join(lines)
    return text if len(text) <= MOST else f"{text[: MOST - 4]}...\n"


def card_of_net(title: str, net: Net, errors: Mapping[str, Any], data: Mapping[str, Any], manifest: Manifest) -> str:
    """Markdown about the published weights `title`.

    Args:
        errors: of the net, as `judge.errors_of` gives them.
        data: what evaluate.json says of the test images.
    """
    trained = net.num_train or num_training(manifest, net.split)
    rate = "" if net.lr is None else f", learning rate {net.lr:g}"
    which = f" ({net.started})" if net.started else ""
    started = f" It started from {net.start}{which}." if net.start else ""
    lines = [
        f"# {title}",
        "",
        f"{net.name}{paper([net])}, {net.params:,} parameters, trained by this project. "
        f"`start.weights=published:{title}` starts a training from it, `predict.weights=published:{title}` predicts by it.",
        "",
        "## Data",
        "",
        f"{manifest.name}, content {manifest.content_hash[:12]}: {trained:,} training images, "
        f"{len(manifest.classes)} classes: {_listed(manifest.classes)}.",
        "",
        "## Training",
        "",
        f"Run {net.key}, seed {net.seed}: {net.steps:,} steps{rate}.{started} The file's header has the "
        "whole recipe. The weights are those of the least validation error.",
        "",
        "## Errors",
        "",
        f"Validation error: {percent(net.val_err1)}.",
        _test_error(errors, data),
        *_USE,
        f"{_LIMITS} Probabilities are not calibrated.",
        "",
    ]
    return "\n".join(lines)


def paper(nets: Iterable[Net]) -> str:
    """The reference, for nets that are all the paper's; else ""."""
    of_it = all(net.model.net.family in ("cifar", "imagenet") for net in nets)
    return " (He et al. 2015, arXiv 1512.03385)" if of_it else ""


def _nets(count: int) -> str:
    return "one net" if count == 1 else f"{count} nets"


def _choice(ensemble: Ensemble) -> str:
    if ensemble.selection == "listed":
        return "which a person listed (`ensemble.members`)"
    return f"chosen by `ensemble.selection={ensemble.selection}` on validation images alone"


def _listed(classes: tuple[str, ...]) -> str:
    rest = len(classes) - LISTED
    return ", ".join(classes[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


def _member(net: Net) -> str:
    rate, seed = ("-" if value is None else f"{value:g}" for value in (net.lr, net.seed))
    weight = "-" if net.weight is None else f"{net.weight:.2f}"
    return f"| {net.name} | {net.steps:,} | {rate} | {seed} | {weight} | {percent(net.val_err1)} | {net.key} |"


def _tested(tested: Mapping[str, Any]) -> list[str]:
    worst = max(tested["per_class"], key=lambda entry: entry["test_err1"] or 0.0)
    return [
        _test_error(tested["ensemble"], tested["data"]),
        f"It errs most on {worst['class']}: {percent(worst['test_err1'])} of {worst['count']:,} images.",
    ]


def _test_error(errors: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    low, high = errors["ci95"]
    line = (
        f"Test error on {data['num_test']:,} images ({data['protocol']}): {percent(errors['test_err1'])} "
        f"(95 % interval {100 * low:.2f} to {100 * high:.2f} %)"
    )
    if len(data["classes"]) > 5:
        low, high = errors["ci95_err5"]
        line += f"; top-5 {percent(errors['test_err5'])} ({100 * low:.2f} to {100 * high:.2f} %)"
    return f"{line}."


def percent(value: float | None) -> str:
    """0.0875 -> 8.75 %."""
    return "not measured" if value is None else f"{100 * value:.2f} %"
