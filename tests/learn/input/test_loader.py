"""Which images a rank is served, in which order, and after a break."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.learn.input.loader import EvalLoader, Share, TrainLoader


def batch(indices: np.ndarray, draws: np.ndarray | None) -> list[tuple]:
    return [(int(i), *(draws[row] if draws is not None else ())) for row, i in enumerate(indices)]


def loader(rank: int = 0, world_size: int = 1, ahead: int = 0) -> TrainLoader:
    indices = np.arange(3, 53)  # 50 of 60 records
    source = SimpleNamespace(width=3, ahead=ahead, mixes=False, fetch=batch)
    return TrainLoader(indices, 60, 16, 1, source, Share(rank, world_size))


def served(source: TrainLoader, epochs: int) -> list:
    return [made for _ in range(epochs) for made in source]


def test_an_epoch_is_its_full_batches_of_different_images():
    source = loader()
    epoch = [sample[0] for made in source for sample in made]
    assert len(source) == 3 and len(set(epoch)) == 48 and set(epoch) < set(range(3, 53))


@pytest.mark.parametrize("ahead", [0, 3])
@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_restored_loader_goes_on_with_the_next_batch_however_many_threads_prepare(stop, ahead):
    whole = served(loader(), 3)
    assert whole[:3] != whole[3:6]  # each epoch has another order and other draws
    stopped, resumed, first = loader(ahead=ahead), loader(ahead=ahead), []
    while len(first) < stop:
        for made in stopped:
            first.append(made)
            if len(first) == stop:
                resumed.load_state_dict(stopped.state_dict())
                break
    rest = []
    while len(first) + len(rest) < len(whole):
        rest += list(resumed)
    assert first + rest == whole


def test_a_batch_larger_than_the_split_is_refused():
    with pytest.raises(ValueError, match="batch_size=64 is larger than the 50 training images"):
        TrainLoader(np.arange(50), 60, 64, 0, SimpleNamespace(width=3, ahead=0, mixes=False, fetch=batch))


@pytest.mark.parametrize(("images", "ranks"), [(10, 1), (10, 3), (7, 4), (1, 2)])
def test_evaluation_counts_each_image_once_in_as_many_batches_on_every_rank(images, ranks):
    loaders = [EvalLoader(np.arange(images), 2, batch, share=Share(rank, ranks)) for rank in range(ranks)]
    batches = [list(source) for source in loaders]
    assert len({len(made) for made in batches}) == 1
    served_images = [sample[0] for made in batches for part in made for sample in part]
    assert sorted(served_images) == list(range(images))
