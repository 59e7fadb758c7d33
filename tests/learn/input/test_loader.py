"""Which images a rank is served, in which order, and after a break."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.learn.input.loader import EvalLoader, Share, TrainLoader


def batch(indices: np.ndarray, draws: np.ndarray | None) -> list[tuple]:
    return [(int(i), *(draws[row] if draws is not None else ())) for row, i in enumerate(indices)]


def loader(rank: int = 0, world_size: int = 1, ahead: int = 0, parts: int = 1, mixes: bool = False) -> TrainLoader:
    indices = np.arange(3, 53)  # 50 of 60 records
    source = SimpleNamespace(width=3, ahead=ahead, mixes=mixes, fetch=batch)
    return TrainLoader(indices, 60, 16, 1, source, Share(rank, world_size), parts)


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


def test_parts_of_a_batch_have_the_same_images_on_any_number_of_ranks():
    whole = [[int(sample[0]) for sample in made] for made in loader()]
    assert [[sample[0] for sample in made] for made in loader(parts=4)] == whole
    one, two = ([[sample[0] for sample in made] for made in loader(rank, 2, parts=2)] for rank in (0, 1))
    for both, first, second in zip(whole, one, two, strict=True):
        assert first == both[:4] + both[8:12] and second == both[4:8] + both[12:]  # each part is shared out


def test_an_image_to_mix_with_comes_before_a_ranks_own_and_is_of_the_same_part():
    whole = [[int(sample[0]) for sample in made] for made in loader()]
    for rank, ranks, parts, places in (
        (0, 1, 1, [15, *range(16)]),
        (1, 2, 1, [7, *range(8, 16)]),
        (0, 2, 2, [7, *range(4), 15, *range(8, 12)]),
    ):
        made = loader(rank, ranks, parts=parts, mixes=True)
        assert [[sample[0] for sample in one] for one in made] == [[both[at] for at in places] for both in whole]


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
