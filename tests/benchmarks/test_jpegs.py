from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import jpegs
from benchmarks.photos import photo_archive, photo_store, photos, preprocessed
from pipeline.data.store import Store

COUNT = 90  # of which 72 are for training


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return photo_store(tmp_path_factory.mktemp("photos"), COUNT)


def test_photos_are_seeded_and_as_large_as_imagenettes() -> None:
    made = list(photos(20, 224, 224))
    assert made == list(photos(20, 224, 224)) and made != list(photos(20, 224, 224, seed=1))
    assert 9_500 < np.mean([len(jpeg) for jpeg in made]) < 11_500  # Imagenette's mean: 10,540
    spread = np.mean([np.asarray(Image.open(io.BytesIO(jpeg)).convert("L")).std() for jpeg in made])
    assert 40 < spread < 60


@pytest.mark.parametrize("threads", [1, 2])
def test_the_loader_serves_whole_batches(store: Store, threads: int) -> None:
    ticks = iter([0.0, 2.0])
    served = jpegs.rate(store, np.arange(72), "random_resized_crop", threads, lambda: next(ticks))
    assert served == 64 / 2.0


def test_rows_name_their_images_and_can_be_run(store: Store) -> None:
    rows = jpegs.delivery_rows(store, 70)
    assert "70 JPEGs of 10," in rows[0].name
    assert [row.bar for row in rows[:3]] == [jpegs.PIL_BAR, jpegs.TURBO_BAR, None]
    assert all(row.ours() > 0 and row.reference() > 0 for row in rows)


def test_preprocess_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    photo_archive(tmp_path / "photos.tar", list(photos(20, 90, 120)), copies=2)
    cost = preprocessed(tmp_path / "photos.tar", 64, cores=1)
    assert cost["images"] == 40 and cost["seconds"] > 0
    assert 30e6 < cost["peak"] < 1e9


@pytest.mark.slow
def test_the_memory_of_preprocess_does_not_grow_with_the_data(tmp_path: Path) -> None:
    made = list(photos(300, *jpegs.LARGE))
    peaks = []
    for copies in (1, 4):
        photo_archive(tmp_path / f"{copies}.tar", made, copies)
        peaks.append(preprocessed(tmp_path / f"{copies}.tar", jpegs.STORED, cores=2)["peak"])
    assert peaks[1] <= jpegs.MEMORY_BAR * peaks[0]
