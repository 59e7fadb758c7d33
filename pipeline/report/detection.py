"""The report of object detectors (the paper's Sec. 4.3, appendices A and B) as files, like `page` for classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.report import markdown as md
from pipeline.report.check_detectors import assess_detectors
from pipeline.report.claims import Outcome
from pipeline.report.detector_classes import detector_classes
from pipeline.report.detector_curves import detector_curves
from pipeline.report.detector_gain import PAPERS_SHARE, detector_gain, gain_sentence
from pipeline.report.detector_nets import detector_sweep, detectors
from pipeline.report.detectors import DetectionInputs, ap_interval, ap_of, shown_ap, shown_interval, swap
from pipeline.report.page import claims, training_runs, write_page
from pipeline.report.paper import TITLE, title_of
from pipeline.report.provenance import provenance
from pipeline.report.scenes import scenes

GAINS = (
    "Intervals of gains in AP are over images and, of several seeds, over these; both nets see the same images. A single seed "
    "of each net settles no gain."
)
RULES = (
    "A claim holds or fails where the whole 95% interval says so, and is inconclusive where the interval includes both "
    f"answers or none was computed. {GAINS} Holm's correction allows for the number of claims of a kind that the same runs "
    "test."
)


def build_detection_report(inputs: DetectionInputs, out: Path) -> Path:
    """Writes the report and returns the path of its index.html.

    As `page.build_report`: `out` appears whole or not at all, and the same inputs give the same bytes. In figures/ there
    is an SVG for each scene beside the figures' PNGs.
    """
    outcomes = assess_detectors(inputs)
    return write_page(compose_detection(inputs, outcomes), outcomes, inputs.data["name"], out)


def compose_detection(inputs: DetectionInputs, outcomes: Sequence[Outcome]) -> md.Document:
    """The report before it is written."""
    name = inputs.data["name"]
    parts = [
        ("summary", "Summary", [*_findings(inputs), _headline(inputs)]),
        ("nets", "Nets and ensemble", detectors(inputs)),
        ("gain", "Only the net was swapped", detector_gain(inputs)),
        ("curves", "Learning curves", detector_curves(inputs)),
        ("sweep", "Sweep", detector_sweep(inputs)),
        ("classes", "Classes", detector_classes(inputs)),
        ("detections", "Detections", scenes(inputs)),
        ("claims", "The paper's claims", claims(outcomes, name, RULES)),
        ("provenance", "Provenance", provenance(inputs)),
    ]
    title = f"Object detection on {title_of(name)}"
    return md.Document(title, f"A reproduction of {TITLE}", [md.Section(*part) for part in parts])


def _findings(inputs: DetectionInputs) -> list[md.Block]:
    """What was found, in plain words; none where nothing was tested."""
    if not inputs.detectors:
        return []
    n, ensemble, best = md.count(inputs.num_test), inputs.ensemble, inputs.best
    sentences = []
    if ensemble and ensemble["size"] > 1:
        sentences.append(f"Together, {ensemble['size']} detectors reach an AP of {_ap(ensemble)} on {n} test images.")
        if best:
            sentences.append(f"The best of them alone, {best.name}, reaches {_ap(best.net.to_json())}.")
        if difference := inputs.gain:
            sentences.append(_averaging(difference))
    elif best:
        sentences.append(f"{best.name} in Faster R-CNN reaches an AP of {_ap(best.net.to_json())} on {n} test images.")
    sentences.append("An AP of 100% means that every object is found with an exact box, and nothing else.")
    return [md.paragraph(" ".join([*sentences, *map(gain_sentence, inputs.gains)]))]


def _averaging(difference: Mapping[str, Any]) -> str:
    low, high = difference["ci95"]
    bounds = f"{md.points(-difference['estimate'])} points of AP, 95% interval {md.points(-high)} to {md.points(-low)}"
    if high < 0:
        return f"Together they detect better by more than chance explains ({bounds})."
    return f"Together they detect {'worse' if low > 0 else 'as well, as far as can be told'} ({bounds})."


def _ap(errors: Mapping[str, Any]) -> str:
    return f"{shown_ap(ap_of(errors['test_err1']))} (95% interval {shown_interval(ap_interval(errors['ci95']))})"


def _headline(inputs: DetectionInputs) -> md.Block:
    numbers, n = [], md.count(inputs.num_test)
    if ensemble := inputs.ensemble:
        detail = f"95% interval {shown_interval(ap_interval(ensemble['ci95']))}; {n} test images, {md.plural(ensemble['size'], 'member')}"
        numbers.append(("Ensemble, AP", shown_ap(ap_of(ensemble["test_err1"])), detail))
    if best := inputs.best:
        detail = f"{best.name}, 95% interval {shown_interval(ap_interval(best.net.ci95))}"
        label = "Best member, AP" if inputs.members else "Named run, AP"
        numbers.append((label, shown_ap(ap_of(best.net.test_err1)), detail))
    for gain in inputs.gains:
        if relative := gain["relative"]:
            detail = f"{swap(gain, 'for')}, 95% interval {md.interval(relative['ci95'])}; the paper {PAPERS_SHARE:.0%} on COCO"
            numbers.append(("Relative gain in AP", f"{md.signed(100 * relative['estimate'])}%", detail))
    counts = ", ".join(f"{md.count(size)} {split}" for split, size in inputs.data["counts"].items())
    detail = f"{md.plural(len(inputs.data['classes']), 'class')}; {counts} images"
    return md.tiles([*numbers, training_runs(inputs), ("Data set", inputs.data["name"], detail)])
