"""What evaluation publishes of detectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_scenes import CLASSES, RECIPE, model, save_detector, write_store

from pipeline.data.store import Store
from pipeline.detection.detect import Scenes, all_scenes
from pipeline.detection.gains import Judged, gains, improvements
from pipeline.detection.judge import judge, pictures
from pipeline.ensemble.build import Ensemble
from pipeline.evaluation.detection import Detections
from pipeline.record import Net, from_json


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    store = write_store(tmp_path_factory.mktemp("data") / "store")
    return all_scenes(store, store.test())


@pytest.fixture(scope="module")
def net(scenes: Scenes, tmp_path_factory: pytest.TempPathFactory) -> Net:
    return save_detector(tmp_path_factory.mktemp("runs"), scenes.store, 1)


def exact(scenes: Scenes, missed: int = 0, off: float = 0.0) -> list[Detections]:
    """The objects themselves, `off` pixels to the right; none in the first `missed` images."""
    found = []
    for at, boxes in enumerate(scenes.truth):
        shifted = boxes.corners + np.float32([off, 0, off, 0])
        kept = slice(0) if at < missed else slice(None)
        found.append(Detections(shifted[kept], np.ones(1, np.float32)[kept], boxes.labels[kept]))
    return found


def judged(
    net: Net, scenes: Scenes, backbone: str = "resnet8", seed: int = 0, lr: float = 0.1, **found: float
) -> Judged:
    changes = {"model": model(backbone), "seed": seed, "checkpoint_sha256": f"{backbone}{seed}{lr}"}
    detections = exact(scenes, **found)  # type: ignore[arg-type]
    return Judged.make(replace(net, recipe=replace(RECIPE, lr=lr), **changes), detections, scenes)


def changed(judged: Judged, **changes: Any) -> Judged:
    """With another record; recipe and model: changes of its own."""
    parts = {
        part: replace(getattr(judged.net, part), **changes.pop(part)) for part in ("recipe", "model") & changes.keys()
    }
    return judged._replace(net=replace(judged.net, **parts, **changes))


def ensemble_of(*members: Net) -> Ensemble:
    return Ensemble(
        selection="top_k",
        wanted=len(members),
        data="scenes",
        content_hash="",
        val_err1=0.4,
        val_err1_by_size=[0.5] * len(members),
        members=list(members),
        registered={},
    )


def test_errors_stand_for_average_precision(scenes: Scenes, net: Net) -> None:
    one, other = judged(net, scenes, missed=4), judged(net, scenes, seed=1, missed=2)
    joint = exact(scenes)
    result = judge(ensemble_of(one.net, other.net), scenes, joint, [one, other], named=one)
    assert (result["ensemble"]["test_err1"], result["ensemble"]["test_err5"]) == (0, 0)
    assert result["ensemble"]["scores"]["ap"] == 1 and result["ensemble"]["voc"] == pytest.approx({"07": 1, "area": 1})
    first, second = result["members"]
    ap, ap50 = one.matches.scores().ap, one.matches.scores().ap50
    assert 0.3 < ap < 0.7 and first["test_err1"] == pytest.approx(1 - ap) and result["run"] == first
    assert first["ci95"][0] <= first["test_err1"] <= first["ci95"][1]
    assert first["test_err5"] == 1 - ap50 and first["ci95_err5"][0] < first["test_err5"] < first["ci95_err5"][1]
    for points, mean in first["voc"].items():
        assert 0 <= first["voc_ci95"][points][0] < mean < first["voc_ci95"][points][1] <= 1
    assert first["test_err1"] > second["test_err1"] and from_json(first).test_err1 == first["test_err1"]
    difference = result["ensemble"]["difference_to_best_member"]
    assert difference["estimate"] < 0 and difference["ci95"][1] <= 0
    assert len(first["per_class"]) == len(CLASSES)


def test_the_best_member_is_chosen_by_validation_not_by_test(scenes: Scenes, net: Net) -> None:
    chosen = judged(replace(net, val_err1=0.2), scenes, missed=4)
    other = judged(replace(net, val_err1=0.3), scenes, seed=1, missed=1)
    joint = exact(scenes, missed=2)
    result = judge(ensemble_of(other.net, chosen.net), scenes, joint, [other, chosen])
    difference, ap = result["ensemble"]["difference_to_best_member"], scenes.matches(joint).scores().ap
    assert difference["estimate"] == pytest.approx(chosen.matches.scores().ap - ap) and difference["estimate"] < 0
    low, high = difference["ci95"]
    assert low <= difference["estimate"] <= high and low < high


def test_a_residual_net_is_compared_with_the_plain_net_of_its_depth_by_the_seeds_that_both_have(
    scenes: Scenes, net: Net
) -> None:
    nets = [judged(net, scenes, "resnet8", seed) for seed in (0, 1, 2)]
    nets += [judged(net, scenes, "plain8", seed, missed=4) for seed in (0, 1)]
    (row,) = gains(nets)
    assert (row["net"], row["base"], row["seeds"]) == ("ResNet-8", "plain-8", [0, 1])
    assert row["net_ap"] == 1 and row["relative"]["estimate"] == pytest.approx(1 / row["base_ap"] - 1)
    low, high = row["relative"]["ci95"]
    assert 0 < low < row["relative"]["estimate"] < high
    base = nets[3]  # both seeds find the same
    assert row["ap50"]["base_ap"] == base.matches.scores().ap50
    assert row["voc07"]["base_ap"] == pytest.approx(
        np.mean([ap for ap in base.voc["07"].per_class() if ap is not None])
    )
    for metric in ("ap50", "voc07"):
        assert row[metric]["net_ap"] == pytest.approx(1) and row[metric]["difference"]["ci95"][0] > 0
        assert row[metric]["relative"]["estimate"] == pytest.approx(1 / row[metric]["base_ap"] - 1)


def test_seeds_that_disagree_widen_the_interval(scenes: Scenes, net: Net) -> None:
    plain = [judged(net, scenes, "plain8", seed, missed=2) for seed in (0, 1, 2)]
    alike = [judged(net, scenes, "resnet8", seed, missed=1) for seed in (0, 1, 2)]
    apart = [judged(net, scenes, "resnet8", seed, missed=missed) for seed, missed in ((0, 0), (1, 1), (2, 2))]
    widths = []
    for residual in (alike, apart):
        (row,) = gains([*plain, *residual])
        low, high = row["difference"]["ci95"]
        widths.append(high - low)
    assert widths[1] > 1.2 * widths[0]


def test_each_backbone_is_taken_at_its_best_rate_on_validation_images(scenes: Scenes, net: Net) -> None:
    best = judged(replace(net, val_err1=0.2), scenes, lr=0.1, missed=3)
    worse = judged(replace(net, val_err1=0.3), scenes, lr=0.2)
    plain = judged(net, scenes, "plain8", missed=4)
    (row,) = gains([worse, best, plain])
    assert row["net_ap"] == best.matches.scores().ap


def test_a_rate_with_fewer_seeds_is_no_better_one_by_its_luck(scenes: Scenes, net: Net) -> None:
    plain = [judged(net, scenes, "plain8", seed, missed=4) for seed in (0, 1)]
    lucky = judged(replace(net, val_err1=0.1), scenes, lr=0.2)
    usual = [judged(replace(net, val_err1=0.2), scenes, seed=seed, missed=3) for seed in (0, 1)]
    (row,) = gains([*plain, lucky, *usual])
    assert row["seeds"] == [0, 1] and row["net_ap"] == usual[0].matches.scores().ap


@pytest.mark.parametrize("best_first", [True, False])
def test_of_several_runs_of_a_seed_the_best_on_validation_images_counts(
    best_first: bool, scenes: Scenes, net: Net
) -> None:
    best = judged(replace(net, val_err1=0.2, key="best"), scenes, missed=3)
    worse = judged(replace(net, val_err1=0.3, key="worse", start="other weights"), scenes)
    best = changed(best, start="weights")
    plain = judged(replace(net, key="plain", start="weights"), scenes, "plain8", missed=4)
    (row,) = gains([best, worse, plain] if best_first else [worse, plain, best])
    assert row["net_ap"] == best.matches.scores().ap and row["keys"] == ["plain", "best"]


OTHERWISE = [
    {"recipe": {"momentum": 0.8}},
    {"recipe": {"max_steps": 8}},
    {"model": {"family": "faster_rcnn_fpn"}},
    {"model": {"anchor": 8}},
    {"model": {"context": True}},
    {"model": {"init_fan": "fan_out"}},
    {"num_train": 10},
    {"sync_batchnorm": False},
    {"start": "run:0a1b"},
    {"data": "0" * 64},
]


def test_detectors_that_were_not_trained_alike_are_no_pair(scenes: Scenes, net: Net) -> None:
    plain = judged(net, scenes, "plain8", missed=4)
    alike = [judged(net, scenes, seed=1), changed(plain, seed=1)]
    otherwise = [changed(judged(net, scenes), **each) for each in OTHERWISE]
    (row,) = gains([*otherwise, plain, *alike])
    assert row["seeds"] == [1] and row["apart"] == ""


def test_the_weights_of_each_net_may_differ_but_not_what_is_done_with_them(scenes: Scenes, net: Net) -> None:
    residual, plain = judged(net, scenes), judged(net, scenes, "plain8", missed=4)
    frozen, slow = "torchvision:vgg16, frozen", "a.safetensors, backbone at 0.05 of the rate"
    same = changed(plain, start="b.safetensors, backbone at 0.05 of the rate")
    assert len(gains([changed(residual, start=slow), same])) == 1
    assert gains([changed(residual, start=frozen), same]) == gains([residual, same]) == []


def test_each_group_trained_alike_has_a_gain_of_its_own_the_longest_first(scenes: Scenes, net: Net) -> None:
    pair = [judged(net, scenes), judged(net, scenes, "plain8", missed=4)]
    several = [changed(each, seed=seed) for each in pair for seed in (0, 1)]
    pyramids = [changed(each, model={"family": "faster_rcnn_fpn"}) for each in pair]
    longer = [changed(each, recipe={"max_steps": 8}, steps=8, key="longer") for each in pair]
    rows = gains([*pyramids, *several, *longer])
    assert [(row["net"], row["base"]) for row in rows] == [("ResNet-8", "plain-8")] * 3
    assert [row["seeds"] for row in rows] == [[0], [0, 1], [0]] and rows[0]["keys"] == ["longer"] * 2
    assert [row["apart"] for row in rows] == [
        "model.family=faster_rcnn, recipe.max_steps=8",
        "model.family=faster_rcnn, recipe.max_steps=4",
        "model.family=faster_rcnn_fpn, recipe.max_steps=4",
    ]


@pytest.mark.parametrize("other", ["plain14", "resnet14"])
def test_nets_of_other_depths_are_no_pair(other: str, scenes: Scenes, net: Net) -> None:
    nets = [judged(net, scenes, "resnet8"), judged(net, scenes)]
    deeper = replace(nets[1].net, model=replace(model(other), depth=14))
    assert gains([nets[0], nets[1]._replace(net=deeper)]) == []


def test_improvements_are_measured_against_the_same_without_them(scenes: Scenes, net: Net) -> None:
    without, with_it = judged(net, scenes, missed=4), judged(net, scenes, missed=1)
    context = with_it._replace(net=replace(with_it.net, model=replace(with_it.net.model, context=True)))
    context, members = changed(context, key="context"), [replace(net, key="member")]
    nets = [without, context, changed(without, seed=1), changed(context, seed=1, recipe={"max_steps": 8})]
    refined, learned = improvements(without.matches, {"evaluation.refine": with_it.matches}, members, nets)
    assert (refined["keys"], learned["keys"]) == (["member"], [net.key, "context"])
    assert (refined["key"], learned["key"]) == ("evaluation.refine", "model.context")
    for row in (refined, learned):
        before, after = row["ap"]
        assert row["difference"]["estimate"] == pytest.approx(after - before) and row["difference"]["ci95"][0] > 0
    assert refined["seeds"] is None and learned["seeds"] == [without.net.seed]
    assert [(row["net"], row["apart"]) for row in (refined, learned)] == [("", ""), ("ResNet-8", "")]
    assert gains([without, context]) == []


def test_context_in_several_nets_or_lengths_has_rows_that_are_told_apart(scenes: Scenes, net: Net) -> None:
    pair = [judged(net, scenes, missed=4), changed(judged(net, scenes, missed=1), model={"context": True})]
    longer = [changed(each, recipe={"max_steps": 8}, steps=8) for each in pair]
    plain = [judged(net, scenes, "plain8", missed=4), changed(judged(net, scenes, "plain8"), model={"context": True})]
    rows = improvements(pair[0].matches, {}, [], [*pair, *longer, *plain])
    assert sorted((row["net"], row["apart"]) for row in rows) == [
        ("ResNet-8", "recipe.max_steps=4"),
        ("ResNet-8", "recipe.max_steps=8"),
        ("plain-8", ""),
    ]


def test_pictures_show_objects_and_what_is_sure(scenes: Scenes) -> None:
    found = exact(scenes)
    found[0] = found[0]._replace(scores=np.float32([0.4]))
    shown = pictures(scenes, found)
    assert len(shown) == len(scenes.truth) and shown[0]["size"] == [40, 40]
    assert [len(each["found"]) for each in shown[:2]] == [0, 1]
    assert shown[1]["truth"][0]["corners"] == shown[1]["found"][0]["corners"]


def test_a_store_is_what_evaluation_names(scenes: Scenes, net: Net) -> None:
    store: Store = scenes.store
    one = judged(net, scenes)
    result = judge(ensemble_of(one.net), scenes, exact(scenes), [one])
    assert result["data"]["content_hash"] == store.manifest.content_hash and result["classes"] == list(CLASSES)
    assert result["ensemble"]["difference_to_best_member"] is None and result["run"] is None
