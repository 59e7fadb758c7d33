"""Objects with boxes in COCO's JSON: layouts, what is refused, and what the store keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photos import encoded, held, noise
from test_layouts import packed

from pipeline.config import DataConfig
from pipeline.config.limits import LimitsConfig
from pipeline.data.boxes import boxes_of
from pipeline.data.facts import boxed
from pipeline.data.preprocess import preprocess
from pipeline.data.readers import decode, open_published
from pipeline.data.sources import fetch
from pipeline.data.store import open_store
from pipeline.errors import PipelineError

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
WIDTH, HEIGHT = 40, 30
CAT, DOG = {"category_id": 3, "bbox": [1.5, 2, 10, 20]}, {"category_id": 7, "bbox": [0, 0, 40, 30]}
IMAGE = encoded(noise(0, HEIGHT, WIDTH))


def document(objects_of: dict[str, list[dict[str, Any]]], **changes: Any) -> bytes:
    """Annotations: the objects of each image by its file name; images count from 10."""
    listed = [
        {"id": at, "file_name": name, "width": WIDTH, "height": HEIGHT} for at, name in enumerate(objects_of, start=10)
    ]
    objects = [{**row, "image_id": at} for at, rows in enumerate(objects_of.values(), start=10) for row in rows]
    numbered = [{"id": at, **row} for at, row in enumerate(objects, start=100)]
    return json.dumps({"images": listed, "annotations": numbered, "categories": CATEGORIES, **changes}).encode()


def files(*names: str) -> dict[str, bytes]:
    return dict.fromkeys(names, IMAGE)


TRAIN = {"a.jpg": [CAT, DOG], "b.jpg": [DOG], "empty.jpg": []}
LAYOUTS = {  # files, then train, held out for validation, test
    "COCO's, beside captions and keypoints": (
        {
            "annotations/instances_train2017.json": document(TRAIN),
            "annotations/instances_val2017.json": document({"c.jpg": [CAT]}),
            "annotations/person_keypoints_train2017.json": document(TRAIN),
            "annotations/captions_val2017.json": b"{}",
            **files("train2017/a.jpg", "train2017/b.jpg", "train2017/empty.jpg", "val2017/c.jpg"),
        },
        (["train2017/a.jpg", "train2017/b.jpg", "train2017/empty.jpg"], [], ["val2017/c.jpg"]),
    ),
    "COCO's of 2014 with the lists of trainval35k and minival": (
        {
            "annotations/instances_train2014.json": document({"a.jpg": [CAT]}),
            "annotations/instances_val2014.json": document({"b.jpg": [DOG], "c.jpg": [CAT]}),
            "annotations/instances_valminusminival2014.json": document({"b.jpg": [DOG]}),
            "annotations/instances_minival2014.json": document({"c.jpg": [CAT]}),
            **files("train2014/a.jpg", "val2014/b.jpg", "val2014/c.jpg"),
        },
        (["train2014/a.jpg", "val2014/b.jpg"], [], ["val2014/c.jpg"]),
    ),
    "Roboflow's, with the same names in each split": (
        {
            "train/_annotations.coco.json": document(TRAIN),
            "valid/_annotations.coco.json": document({"a.jpg": [CAT]}),
            "test/_annotations.coco.json": document({"a.jpg": [DOG]}),
            **files("train/a.jpg", "train/b.jpg", "train/empty.jpg", "valid/a.jpg", "test/a.jpg"),
        },
        (["train/a.jpg", "train/b.jpg", "train/empty.jpg"], ["valid/a.jpg"], ["test/a.jpg"]),
    ),
    "a file a split beside one folder of images": (
        {
            "train.json": document({"a.jpg": [CAT, DOG]}),
            "val.json": document({"b.jpg": [CAT]}),
            **files("images/a.jpg", "images/b.jpg", ".cache/a.jpg", "images/@eaDir/b.jpg"),
        },
        (["images/a.jpg"], [], ["images/b.jpg"]),
    ),
    "one file for all, with folders in the names": (
        {
            "result.json": document({f"images/{n}.jpg": [CAT, DOG] for n in "abcde"}),
            **files(*(f"images/{n}.jpg" for n in "abcde")),
        },
        None,
    ),
}


def config(**changes: Any) -> DataConfig:
    values = {"name": "set", "source": "boxes", "path": "set", "format": "shards", "image_size": 800, "num_val": 1}
    return DataConfig(**{**values, "workers": 1, **changes})


@pytest.mark.parametrize("kind", ["tar", "folder"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_gives_splits_and_boxes_alike_from_an_archive_and_a_folder(layout, kind, tmp_path):
    content, expected = LAYOUTS[layout]
    with open_published("coco", [packed(kind, tmp_path, content)], tmp_path, config()) as published:
        assert published.classes == ["cat", "dog"]
        train, val = ([r.name for r in published.train if r.val == held] for held in (False, True))
        test = [record.name for record in published.test]
        if expected is None:
            assert (len(train), val, len(test)) == (4, [], 1)
        else:
            assert (train, val, test) == expected
        first = published.train[0].boxes
        assert first.size == (WIDTH, HEIGHT) and first.labels.tolist()[0] == 0 and not first.ignored.any()
        assert first.corners.tolist()[0] == [1.5, 2, 11.5, 22]


ONE = {"train/a.jpg": IMAGE, "train/b.jpg": IMAGE, "test/c.jpg": IMAGE}
TEST = {"test.json": document({"c.jpg": [CAT]})}


def one(*objects: dict[str, Any], **changes: Any) -> dict[str, bytes]:
    return {**ONE, **TEST, "train.json": document({"a.jpg": [CAT, DOG, *objects], "b.jpg": []}, **changes)}


REFUSED = {
    "no annotations": (ONE, r"set holds no annotations; COCO's format has them in \.json files"),
    "a name of no split": ({**ONE, "one.json": document({}), "two.json": document({})}, r"one\.json in .* has no name of a split; name it train\.json"),
    "no training": ({**ONE, **TEST, "val.json": document({})}, "holds annotations of test and val alone; add those of train"),
    "no JSON": ({**ONE, "train.json": b"{"}, r"train\.json in .* is no JSON \(.*\); mend it and fetch again"),
    "no UTF-8": ({**ONE, "train.json": b"\xff\xfe"}, r"train\.json in .* is no JSON"),
    "a list is missing": ({**ONE, "train.json": b'{"images": []}'}, "lacks one of the lists images, annotations, categories"),
    "two images of one id": (one(images=[{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}] * 2), "has two entries of images with the id 1;"),
    "two annotations of one id": (one({"id": 100, **CAT}), "has two entries of annotations with the id 100;"),
    "an unknown class": (one({"category_id": 9, "bbox": [0, 0, 1, 1]}), "has annotation 102 of category 9, which it does not list"),
    "two classes of one name": (one({**CAT, "category_id": 9}, categories=[*CATEGORIES, {"id": 9, "name": "cat"}]), "has objects of two categories called cat;"),
    "an image of two splits": ({**one(), "test.json": document({"c.jpg": [CAT], "a.jpg": [CAT]})}, r"train/a\.jpg in .* is an image of test and of train; leave it in one of them and fetch again"),
    "an unknown image": (one(annotations=[{"id": 1, "image_id": 5, **CAT}]), "has annotation 1 of image 5, which it does not list"),
    "an image that is not there": ({**one(), "test.json": document({"d.jpg": [CAT]})}, r"names d\.jpg, which is not there"),
    "an image in two places": ({**one(), "train.json": document({"a.jpg": [CAT, DOG]}), "x/a.jpg": IMAGE, "train/x/a.jpg": IMAGE}, r"names a\.jpg, which is .*a\.jpg or .*a\.jpg"),
    "three numbers": (one({"category_id": 3, "bbox": [0, 0, 1]}), r"has annotation 102 with the bbox \[0, 0, 1\]; it takes four numbers"),
    "no size": (one(images=[{"id": 10, "file_name": "a.jpg", "width": "wide", "height": 30}]), "gives image 10 the size 'wide' x 30; it takes pixels"),
    "a box outside": (one({"category_id": 3, "bbox": [41, 0, 5, 5]}), r"annotation 102 of train/a\.jpg in .* lies outside of its 40x30 pixels \(left, top, right, bottom: 41, 0, 46, 5\)"),
    "a box at no place": (one({"category_id": 3, "bbox": [float("nan"), 0, 5, 5]}), "lies outside of its 40x30 pixels"),
    "nested without an end": ({**ONE, "train.json": b"[" * 100_000}, "is no JSON"),
    "an id that is a list": (one(images=[{"id": [1], "file_name": "a.jpg", "width": 40, "height": 30}]), "has an entry of images, number 0, whose id is no number and no text"),
    "an image that is a list": (one(annotations=[{"id": 1, "image_id": [5], **CAT}]), r"has annotation 1 of image \[5\], which it does not list"),
    "a class that is a mapping": (one({"category_id": {}, "bbox": [0, 0, 1, 1]}), "has annotation 102 of category {}, which it does not list"),
    "an image without a name": (one(images=[{"id": 10, "file_name": "", "width": 40, "height": 30}]), "names , which is not there"),
    "a size beyond any": (one(images=[{"id": 10, "file_name": "a.jpg", "width": 10**400, "height": 30}]), "gives image 10 the size 1000.* x 30; it takes pixels"),
    "a number beyond any": (one({"category_id": 3, "bbox": [10**400, 0, 1, 1]}), "it takes four numbers"),
    "no box in train": ({**ONE, **TEST, "train.json": document({"a.jpg": []})}, "has no box in its training images"),
    "a class in test alone": ({**ONE, "train.json": document({"a.jpg": [CAT]}), "test.json": document({"c.jpg": [DOG]})}, "is of class dog, which has no box in train"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_annotations_that_contradict_themselves_are_refused_by_name(case, tmp_path):
    content, sentence = REFUSED[case]
    with (
        pytest.raises(PipelineError, match=sentence) as caught,
        open_published("coco", [packed("folder", tmp_path, content)], tmp_path, config()),
    ):
        pass
    assert str(caught.value).isprintable()


def build(root: Path, content: dict[str, bytes], **changes: Any):
    packed("folder", root, content)
    fetch(config(**changes), root / "raw", root)
    preprocess(config(**changes), root / "raw", root / "store")
    return open_store(root / "store")


def test_the_store_keeps_boxes_in_pixels_of_its_own_images(tmp_path):
    crowd, outside = {**DOG, "iscrowd": 1}, {"category_id": 3, "bbox": [-4, 20, 14, 30]}
    content = {
        "train.json": document({"a.jpg": [CAT, crowd], "b.jpg": [], "c.jpg": [DOG, outside, {"category_id": 3, "bbox": [5, 5, 0, 9]}]}),
        "test.json": document({"d.jpg": [CAT]}),
        **files("train/a.jpg", "train/b.jpg", "train/c.jpg", "test/d.jpg"),
    }  # fmt: skip
    store = build(tmp_path, content, image_size=15)  # half of the published height
    assert boxed(store.manifest) and store.manifest.classes == ("cat", "dog")
    boxes = boxes_of(store, "train")
    assert len(boxes) == 3 and len(boxes[1].labels) == 0 and boxes[1].corners.shape == (0, 4)
    assert boxes[0].size == (20, 15) and boxes[0].ignored.tolist() == [False, True]
    np.testing.assert_array_equal(boxes[0].corners, np.array([[0.75, 1, 5.75, 11], [0, 0, 20, 15]], np.float32))
    np.testing.assert_array_equal(boxes[2].corners, np.array([[0, 0, 20, 15], [0, 10, 5, 15]], np.float32))
    assert boxes[2].labels.tolist() == [1, 0]
    assert boxes_of(store, "test")[0].labels.tolist() == [0]
    with pytest.raises(IndexError, match="image 3 of 3"):
        boxes[3]
    train, val = store.split_indices("holdout")
    assert len(val) == 1 and len(train) == 2


def test_what_is_cut_off_or_left_out_is_counted(tmp_path):
    content = one({"category_id": 3, "bbox": [30, 0, 20, 5]}, {"category_id": 3, "bbox": [5, 5, 0, 9]})
    content |= {"train/x.jpg": IMAGE, "notes.txt": b""}
    with open_published("coco", [packed("folder", tmp_path, content)], tmp_path, config()) as published:
        assert {what.what: what.number for what in published.left_out} == {
            "boxes without area": 1,
            "parts of boxes outside of their images": 1,
            "images that no annotations name": 1,
            "files that end in .txt": 1,
        }


def test_each_file_has_its_own_ids_of_classes_whose_order_is_that_of_the_first(tmp_path):
    swapped = [{"id": 3, "name": "dog"}, {"id": 8, "name": "cat"}]  # in test.json, which comes before train.json
    content = {**one(), "test.json": document({"c.jpg": [{**CAT, "category_id": 8}]}, categories=swapped)}
    with open_published("coco", [packed("folder", tmp_path, content)], tmp_path, config()) as published:
        assert published.classes == ["dog", "cat"]
        assert published.train[0].boxes.labels.tolist() == [1, 0] and published.test[0].boxes.labels.tolist() == [1]


def test_annotations_beyond_a_limit_are_refused_by_the_limit(tmp_path):
    few = config(limits=LimitsConfig(entry_mb=1e-4))
    with pytest.raises(PipelineError, match=r"^[^(]* holds test\.json with .*data\.limits\.entry_mb="):
        open_published("coco", [packed("folder", tmp_path, one())], tmp_path, few).__enter__()


def test_ids_may_be_numbers_and_texts(tmp_path):
    content = one({"category_id": "b", "bbox": [0, 0, 1, 1]}, categories=[{"id": "b", "name": "bird"}, *CATEGORIES])
    with open_published("coco", [packed("folder", tmp_path, content)], tmp_path, config()) as published:
        assert published.classes == ["cat", "dog", "bird"]


def test_classes_without_a_box_are_left_out_and_noted(tmp_path):
    content = one(categories=[{"id": 0, "name": "animals"}, *CATEGORIES])
    with open_published("coco", [packed("folder", tmp_path, content)], tmp_path, config()) as published:
        assert published.classes == ["cat", "dog"]
        assert "1 classes have no box in train and are left out, such as animals" in published.notes


def test_a_category_without_objects_may_have_the_name_of_another_as_roboflow_writes_it(tmp_path):
    content = one(categories=[{"id": 0, "name": "dog"}, *CATEGORIES])
    with open_published("coco", [packed("folder", tmp_path, content)], tmp_path, config()) as published:
        assert published.classes == ["cat", "dog"] and published.train[0].boxes.labels.tolist() == [0, 1]


def test_names_that_differ_in_how_accents_are_written_are_one(tmp_path):
    elk = {"category_id": 5, "bbox": [0, 0, 9, 9]}
    content = {
        "train.json": document({"u\u0308.jpg": [elk], "b.jpg": []}, categories=[{"id": 5, "name": "E\u0301lan"}]),
        "test.json": document({"c.jpg": [elk]}, categories=[{"id": 5, "name": "\u00c9lan"}]),
        **files("images/\u00fc.jpg", "images/b.jpg", "images/c.jpg"),
    }
    with open_published("coco", [packed("folder", tmp_path, content)], tmp_path, config()) as published:
        assert published.classes == ["\u00c9lan"]
        assert [record.name for record in published.train] == ["images/b.jpg", "images/\u00fc.jpg"]


@pytest.mark.parametrize("twice", "abcde")
def test_an_image_that_one_file_lists_twice_is_refused_whichever_images_are_drawn_to_test(twice, tmp_path):
    listed = [
        {"id": at, "file_name": f"{name}.jpg", "width": WIDTH, "height": HEIGHT}
        for at, name in enumerate(f"abcde{twice}", start=10)
    ]
    objects = [{"id": row["id"], "image_id": row["id"], **CAT} for row in listed]
    content = {"result.json": document({}, images=listed, annotations=objects), **files(*(f"{n}.jpg" for n in "abcde"))}
    sentence = rf"^{twice}\.jpg in .* is listed twice in the annotations of train; merge its entries and fetch again"
    with pytest.raises(PipelineError, match=sentence):
        open_published("coco", [packed("folder", tmp_path, content)], tmp_path, config()).__enter__()


def test_a_drawn_test_set_that_takes_a_rare_class_names_the_largest_one_that_does_not(tmp_path):
    def read(rare: str, num_test: int):
        objects = {f"{name}.jpg": [CAT, DOG] if name in rare else [CAT] for name in "abcdef"}
        path = packed("folder", tmp_path, {"result.json": document(objects), **files(*objects)})
        return open_published("coco", [path], tmp_path, config(num_test=num_test))

    sentence = "^4 images of .* leaves less than two of class dog, one to train and one to validate: "
    with pytest.raises(PipelineError, match=rf"{sentence}draw fewer \(override: data\.num_test=2\), or add images"):
        read("ab", 4).__enter__()
    with read("ab", 2) as published:
        assert sum(1 in record.labels for record in published.train) == 2
    with pytest.raises(PipelineError, match=f"{sentence}add images of that class, or remove it"):
        read("cd", 4).__enter__()  # one of the two is drawn first


@pytest.mark.parametrize(
    ("orientation", "width", "height", "sentence"),
    [
        (
            3,
            80,
            40,
            r"train/a\.jpg: EXIF orientation 3, and tools disagree .* `mogrify -auto-orient`, and annotate or export",
        ),
        (6, 80, 40, r"train/a\.jpg: EXIF orientation 6, and tools disagree"),
        (3, 40, 80, r"train/a\.jpg: 80x40 pixels instead of the 40x80 of its annotations"),
    ],
)
def test_an_image_whose_boxes_may_refer_to_it_before_or_after_turning_is_refused(
    orientation, width, height, sentence, tmp_path
):
    listed = [{"id": 10, "file_name": "a.jpg", "width": width, "height": height}]
    content = {
        **one(),
        "train.json": document(
            {"a.jpg": [CAT]}, images=[*listed, {"id": 11, "file_name": "b.jpg", "width": 40, "height": 30}]
        ),
        "train/a.jpg": encoded(noise(0, 40, 80), "JPEG", exif=held(orientation)),
    }
    with pytest.raises(PipelineError, match=sentence):
        build(tmp_path, content)


@pytest.mark.parametrize(("orientation", "turn"), [(6, lambda pixels: np.rot90(pixels, -1)), (8, np.rot90)])
def test_an_image_whose_boxes_fit_it_turned_is_stored_turned_with_its_boxes_on_the_same_pixels(
    orientation, turn, tmp_path
):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[8:16, 48:72] = 255  # 24 wide and 8 high
    rows, columns = np.nonzero(turn(pixels)[..., 0])
    left, top = int(columns.min()), int(rows.min())
    box = {"category_id": 3, "bbox": [left, top, 8, 24]}
    sizes = [("a.jpg", 40, 80), ("b.jpg", WIDTH, HEIGHT)]
    listed = [{"id": at, "file_name": name, "width": w, "height": h} for at, (name, w, h) in enumerate(sizes, start=10)]
    content = {
        **one(),
        "train.json": document({"a.jpg": [box, {**DOG, "bbox": [0, 0, 40, 80]}], "b.jpg": [CAT, DOG]}, images=listed),
        "train/a.jpg": encoded(pixels, "JPEG", quality=95, exif=held(orientation)),
    }
    store = build(tmp_path, content)
    stored, boxes = decode(store.train().jpeg(0)), boxes_of(store, "train")[0]
    assert stored.size == boxes.size == (40, 80) and boxes.corners.tolist()[0] == [left, top, left + 8, top + 24]
    inside = np.asarray(stored)[top : top + 24, left : left + 8]
    assert inside.min() > 200 and np.asarray(stored, np.int64).sum() < 1.1 * inside.sum(dtype=np.int64)


def test_a_fifth_of_few_images_validates_and_more_than_there_are_is_refused_without_a_word_on_classes(tmp_path):
    names = [f"images/{n:02}.jpg" for n in range(30)]
    content = {"result.json": document({name: [CAT, DOG] for name in names}), **files(*names)}
    sentence = (
        r"^data\.num_val=500 with 24 training images; choose from 1 to 23, or a fifth \(override: data\.num_val=0\)$"
    )
    with pytest.raises(PipelineError, match=sentence):
        build(tmp_path, content, num_val=500)
    assert build(tmp_path, content, num_val=0).manifest.split == {"num_val": 4, "seed": 0}


def test_validation_leaves_each_class_an_image_to_train_on(tmp_path):
    """Of 24 images, two show dogs: in most draws of 12, one validates at least."""
    names = [f"images/{n:02}.jpg" for n in range(24)]
    for seed, (one_of, other) in enumerate([(0, 1), (4, 20), (11, 12), (7, 23), (2, 16), (3, 9)]):
        shown = {name: [DOG] if at in (one_of, other) else [CAT] for at, name in enumerate(names)}
        content = {
            "train.json": document(shown),
            **files(*names),
            "test.json": document({"t.jpg": [CAT]}),
            **files("t.jpg"),
        }
        (tmp_path / str(seed)).mkdir()
        store = build(tmp_path / str(seed), content, num_val=12, split_seed=seed)
        val = store.split_indices("holdout")[1]
        assert len(val) == 12
        trained = set(range(24)) - set(val.tolist())
        assert any(1 in boxes_of(store, "train")[at].labels for at in trained)
    with pytest.raises(
        PipelineError, match=r"data\.num_val=23 leaves no image of class .* \(override: data\.num_val=11\)"
    ):
        build(tmp_path / "0", content, num_val=23)


def test_an_image_of_another_size_than_annotated_cannot_be_used(tmp_path):
    content = one() | {"train/a.jpg": encoded(noise(0, WIDTH, HEIGHT))}
    with pytest.raises(PipelineError, match=r"train/a\.jpg: 30x40 pixels instead of the 40x30 of its annotations"):
        build(tmp_path, content)


def test_images_with_boxes_are_kept_as_shards():
    with pytest.raises(
        PipelineError, match=r"data\.format=arrays with data\.source=boxes, whose images keep their shape"
    ):
        config(format="arrays")
