"""The model card beside the weights and in MLflow's registry."""

from __future__ import annotations

from dataclasses import replace

from nets import make_model
from runs import a_net
from tiny_world import CLASSES, choose

from pipeline.ensemble.build import build_ensemble
from pipeline.ensemble.card import MOST, card, card_of_net


def test_the_card_names_data_members_and_errors(world):
    keys = [world.add_run(0.2, depth=14), world.add_run(0.3)]
    build_ensemble(world.source, choose("top_k"), world.root / "ensemble", {})
    text = (world.root / "ensemble" / "card.md").read_text()
    assert all(word in text for word in (*keys, *CLASSES, "ResNet-14", "20.00 %", "have not been opened yet"))


def test_a_card_after_evaluation_has_test_errors_with_intervals_and_never_exceeds_what_mlflow_takes(world):
    world.add_run(0.2)
    ensemble = build_ensemble(world.source, choose("top_k"), world.root / "ensemble", {})
    tested = {
        "data": {"num_test": 1000, "protocol": "single view", "classes": list(CLASSES)},
        "ensemble": {"test_err1": 0.1, "ci95": [0.08, 0.12], "test_err5": 0.01, "ci95_err5": [0.0, 0.02]},
        "per_class": [{"class": "a", "test_err1": 0.4, "count": 10}, {"class": "b", "test_err1": None, "count": 0}],
    }
    text = card(ensemble, world.store.manifest, tested)
    assert "Test error on 1,000 images (single view): 10.00 % (95 % interval 8.00 to 12.00 %)" in text
    assert "errs most on a: 40.00 % of 10 images" in text
    assert "on validation images alone" in text
    listed = card(replace(ensemble, selection="listed"), world.store.manifest)
    assert "a person listed" in listed and "validation images alone" not in listed
    other = replace(ensemble.members[0], model=make_model(16, False, "vgg_bn_small"))
    assert "(He et al. 2015" in text
    assert "(He et al. 2015" not in card(replace(ensemble, members=[*ensemble.members, other]), world.store.manifest)
    many = replace(ensemble, members=ensemble.members * 300)
    named = replace(world.store.manifest, classes=tuple(f"class {number} {'x' * 400}" for number in range(1000)))
    assert len(card(many, named, tested)) <= MOST


def test_the_card_of_a_net_says_what_it_started_from_and_cites_the_paper_for_the_papers_nets_alone(world):
    errors = {"test_err1": 0.1, "ci95": [0.08, 0.12], "test_err5": 0.01, "ci95_err5": [0.0, 0.02]}
    data = {"num_test": 1000, "protocol": "single view", "classes": list(CLASSES)}

    def text(**facts):
        return card_of_net("tiny-net", a_net(key="abc", seed=3, **facts), errors, data, world.store.manifest)

    tuned = text(start="net.pth, frozen", started="c0ffeec0ffee", steps=90)
    assert "Run abc, seed 3: 90 steps. It started from net.pth, frozen (c0ffeec0ffee). The file's header" in tuned
    assert "It started from net.pth. The" in text(start="net.pth")
    assert "It started" not in text() and "ResNet-8 (He et al. 2015" in text()
    assert "He et al." not in text(model=make_model(16, False, "vgg_bn_small"))
