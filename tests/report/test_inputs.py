from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from pipeline.evaluation.evaluate import Judged, evaluation
from pipeline.report import sections
from pipeline.report.claims import assess
from pipeline.report.comparison import differences
from pipeline.report.document import Table
from pipeline.report.inputs import ReportInputs, data_of, kind_of, short_name
from pipeline.report.markdown import to_markdown
from pipeline.report.page import compose
from pipeline.report.paper import PROTOCOLS


def with_run(inputs, **changes):
    run = {**inputs.members[0], **changes}
    return dataclasses.replace(inputs, evaluation={**inputs.evaluation, "run": run})


@pytest.mark.parametrize(
    ("model", "depth", "residual", "kind", "name"),
    [
        ("resnet56", 56, True, "residual", "ResNet-56"),
        ("plain20", 20, False, "plain", "plain-20"),
        ("cifar_resnet50", 50, True, "residual", "ResNet-50"),
        ("vgg16", 16, False, "others", "VGG-16"),
        ("vgg16_bn_small", 16, False, "others", "VGG-16 (BN)"),
        ("alexnet_small", 8, False, "others", "AlexNet"),
        ("googlenet", 22, False, "others", "GoogLeNet"),
    ],
)
def test_a_net_has_its_authors_name(model, depth, residual, kind, name):
    run = {"model": model, "depth": depth, "residual": residual}
    assert (kind_of(run), short_name(run)) == (kind, name)


def test_a_named_run_that_is_a_member_counts_once(make_sample):
    inputs = make_sample()
    assert len(inputs.nets) == 5
    assert with_run(inputs).nets == inputs.members
    assert with_run(inputs, run_id="other").nets == inputs.members  # the same checkpoint


def test_runs_that_the_tracking_server_never_saw_stay_apart(make_sample):
    inputs = make_sample()
    unseen = [{**net, "run_id": ""} for net in inputs.members]
    gain = {"estimate": 0.0, "ci95": [0.0, 0.0], "run_id": ""}
    evaluation = {**inputs.evaluation, "members": unseen, "run": {**inputs.named_run, "run_id": ""}}
    evaluation["ensemble"] = {**inputs.ensemble, "difference_to_best_member": gain}
    inputs = dataclasses.replace(inputs, evaluation=evaluation)
    assert len(inputs.nets) == 5
    assert inputs.best_member["depth"] == 56  # the lowest validation error
    assert "" not in inputs.kinds


def test_validation_images_are_taken_from_the_training_images():
    manifest = {
        "name": "cifar10",
        "classes": ("cat", "dog"),
        "counts": {"train": 50_000, "test": 10_000},
        "split": {"num_val": 5_000, "seed": 0},
        "content_hash": "ab",
    }
    assert data_of(manifest)["counts"] == {"train": 45_000, "val": 5_000, "test": 10_000}


def test_the_page_tells_the_split_of_each_net(make_sample):
    inputs = make_sample()
    full = with_run(inputs, **{**inputs.named_run, "val_err1": None})
    (table,) = (block for block in sections.nets(full) if isinstance(block, Table))
    splits = {row[0]: row[1] for row in table.rows}
    assert splits.pop("ResNet-110 (named run)") == "full"
    assert set(splits.values()) == {"holdout"} and len(splits) == 5
    first, second = [line for line in differences(full, PROTOCOLS["cifar10"]) if line.startswith("Train")]
    assert first.startswith("Training images: 45,000 here")
    assert second == "Trained on all 50,000 training images, with nothing chosen: ResNet-110."
    known = {**inputs.curves[0], "run_id": inputs.named_run["run_id"], "model": "resnet110", "depth": 110}
    full = dataclasses.replace(full, curves=[*full.curves, known])
    written = to_markdown(compose(full, assess(full)))
    assert "split holdout; split full: ResNet-110" in written
    assert "ResNet-110 6.55% (trained on all images)" in written  # a claim's evidence
    assert "split full" not in to_markdown(compose(inputs, assess(inputs)))


def test_what_evaluation_publishes_is_what_a_report_reads():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=60)
    facts = {"model": "resnet8", "depth": 8, "residual": True, "lr": 0.1, "seed": 0, "steps": 510, "params": 75_000}
    judged = [
        Judged(
            facts | {"run_id": name, "key": name, "checkpoint_sha256": name, "weight": 0.5, "val_err1": 0.5},
            rng.random((60, 3)),
        )
        for name in ("a", "b")
    ]
    mean = Judged({"size": 2, "selection": "top_k", "val_err1": 0.5}, rng.random((60, 3)))
    classes = ["a", "b", "never seen"]
    data = {"name": "digits", "content_hash": "ab", "protocol": "single 8x8 view"}
    published = json.loads(json.dumps(evaluation(data, classes, labels, judged, mean, judged[0])))
    counts = {"train": 1, "val": 1, "test": 60}
    inputs = ReportInputs(data={"name": "digits", "classes": classes, "counts": counts}, evaluation=published)
    assert [net["run_id"] for net in inputs.nets] == ["a", "b"]
    assert inputs.best_member["run_id"] == published["ensemble"]["difference_to_best_member"]["run_id"]
    assert compose(inputs, assess(inputs)).title == "ResNet on digits"
