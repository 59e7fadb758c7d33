from __future__ import annotations

from pathlib import Path

import pytest
from test_store import make_manifest

from pipeline.atomic import write_json
from pipeline.config import DataConfig, ModelConfig
from pipeline.data.facts import DECIDING, boxed, made_file, num_training, require_settings, require_task
from pipeline.data.store import Store
from pipeline.errors import DamagedError, PipelineError


def test_holdout_trains_on_all_but_the_validation_images(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, counts={"train": 10, "test": 3}, split={"num_val": 4, "seed": 0})
    assert (num_training(manifest, "holdout"), num_training(manifest, "full")) == (6, 10)


def test_a_net_takes_images_of_its_own_task_alone(tmp_path: Path) -> None:
    labelled, files = make_manifest(tmp_path), {"train_boxes.npy": {"bytes": 1, "sha256": ""}}
    wiring = {"depth": 20, "residual": True, "shortcut": "A"}
    net = ModelConfig(**wiring)
    detector = ModelConfig(family="faster_rcnn", backbone="resnet20", **wiring)
    require_task(labelled, net)
    with_boxes = make_manifest(tmp_path, name="scenes", files=files)
    assert boxed(with_boxes) and not boxed(labelled)
    with pytest.raises(PipelineError, match=r"scenes has boxes of objects.*\(override: data=digits\)"):
        require_task(with_boxes, net)
    require_task(with_boxes, detector)
    with pytest.raises(PipelineError, match=r"labels of images.*\(override: model=cifar\)"):
        require_task(labelled, detector)


MADE = {"name": "s", "path": "s", "image_size": 4, "num_val": 3, "skip_corrupt": True}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"image_size": 8},
            r"^data\.image_size=8, but the store of tiny was made with data\.image_size=4; run `pipeline pre",
        ),
        ({"format": "shards"}, r"^data\.format=shards, but .* was made with data\.format=arrays; "),
        (
            {"num_val": 2, "split_seed": 1},
            r"^data\.num_val=2 and data\.split_seed=1, but .* data\.num_val=3 and data\.split_seed=0; ",
        ),
        ({"num_test": 12}, r"^data\.num_test=12, but .* was made with data\.num_test=14; "),
        ({"skip_corrupt": False}, r"^data\.skip_corrupt=False, but .* was made with data\.skip_corrupt=True; "),
    ],
)
def test_a_store_that_was_made_with_other_values_is_refused(values: dict, sentence: str, tmp_path: Path) -> None:
    # Two of the 14 test images that were drawn could not be decoded.
    store = Store(tmp_path, make_manifest(tmp_path, skipped=("test/a/1.png", "train/a/2.png", "test/b/3.png")))
    same = (
        {"num_test": 14},
        {"num_val": 0},
        {"num_train": 5, "workers": 3, "split": "full"},
        {"path": "t", "labels": "l"},
    )
    for fitting in (MADE, *({**MADE, **changes} for changes in same)):
        require_settings(store, DataConfig(**fitting))
    with pytest.raises(PipelineError, match=sentence):
        require_settings(store, DataConfig(**{**MADE, **values}))


@pytest.fixture
def made(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store beside which its values are written down."""
    manifest, data = make_manifest(tmp_path), DataConfig(**MADE)
    values = {key: getattr(data, key) for key in DECIDING}
    store = tmp_path_factory.mktemp("clone") / "data/store/tiny"
    store.mkdir(parents=True)
    write_json(made_file(store), {"values": values, "content_hash": manifest.content_hash})
    return Store(store, manifest)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"path": "/x/s"}, r"^data\.path=/x/s, but the store of tiny was made with data\.path=s; run `pipeline pre"),
        ({"labels": "a.csv"}, r"^data\.labels=a\.csv, but .* was made with data\.labels=''; "),
        (
            {"layout": "classes", "num_val": 0},
            r"^data\.num_val=0 and data\.layout=classes, but .* data\.num_val=3 and data\.layout=auto; ",
        ),
        ({"source": "imagenet"}, r"^data\.source=imagenet, but .* was made with data\.source=folder; "),
    ],
)
def test_what_the_manifest_does_not_tell_is_known_beside_the_store(
    values: dict, sentence: str, made: Store, tmp_path: Path
) -> None:
    same = ({"mirror": "/m"}, {"num_test": 12}, {"skip_corrupt": False}, {"path": str(made.path.parents[2] / "s")})
    for fitting in (MADE, *({**MADE, **changes} for changes in same)):
        require_settings(made, DataConfig(**fitting))
    other = DataConfig(**{**MADE, **values})
    with pytest.raises(PipelineError, match=sentence):
        require_settings(made, other)
    anew = Store(made.path, make_manifest(tmp_path, counts={"train": 12, "test": 11}))
    if "num_val" not in values:
        require_settings(anew, other)  # what lies beside it is of another store


def test_a_damaged_file_beside_a_store_is_named_with_its_remedy(made: Store) -> None:
    file = made_file(made.path)
    file.write_text(file.read_text().replace('"path": "s"', '"path": "t"'))
    with pytest.raises(DamagedError, match=r"tiny\.made\.json is damaged .*; run `pipeline preprocess`"):
        require_settings(made, DataConfig(**MADE))


def test_published_validation_images_are_those_of_any_split_that_is_asked_for(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, split={"num_val": 3, "seed": 0, "published": True})
    require_settings(Store(tmp_path, manifest), DataConfig(**{**MADE, "num_val": 2, "split_seed": 1}))
