"""Counting errors; which parameters decay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from imports import ROOT
from torch import nn

from pipeline.compose import compose
from pipeline.config import from_dict
from pipeline.models import build_model
from pipeline.training.classifier import Classifier, _sums

LABELS = torch.tensor([0, 1, 2])


def errors(logits: list[list[float]]) -> list[float]:
    return _sums(torch.tensor(logits), LABELS, torch.tensor(1.5)).tolist()


def test_errors_are_counted_by_rank_of_the_true_class():
    logits = [[9, 1, 2, 3, 4, 5, 6], [6, 0, 1, 2, 3, 4, 5], [0, 0, 5, 9, 0, 0, 0]]
    assert errors(logits) == [1.5, 2, 1, 3]


def test_scores_that_are_no_numbers_and_ties_count_as_errors():
    nan = [float("nan")] * 7
    assert errors([nan, nan, nan]) == [1.5, 3, 3, 3]
    assert errors([[1.0] * 7] * 3)[1] == 3


@pytest.mark.parametrize("decay_norm", [False, True])
def test_batch_norm_decays_only_where_asked(decay_norm):
    recipe = replace(from_dict(compose(ROOT, [])).recipe, decay_norm=decay_norm)
    model = build_model("cifar", 8, num_classes=10)
    optimizer = Classifier(model, recipe).configure_optimizers()
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    norms = {id(p) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in model.parameters()}
    assert (norms <= decayed) == decay_norm and {id(p) for p in model.parameters()} - norms <= decayed


def test_the_optimiser_holds_parameters_in_one_order_in_every_process():
    recipe = from_dict(compose(ROOT, [])).recipe
    model = build_model("cifar", 8, num_classes=10)
    place = {id(p): index for index, p in enumerate(model.parameters())}
    for group in Classifier(model, recipe).configure_optimizers().param_groups:
        places = [place[id(p)] for p in group["params"]]
        assert places == sorted(places)
