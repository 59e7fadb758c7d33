from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import FORKS, PATIENCE_S, free_port
from torch import nn

from pipeline.fast.batchnorm import CpuLayerSync, CpuSyncBatchNorm2d

BATCH = 6
LAST, FIRST = torch.channels_last, torch.contiguous_format
# Channels, side, memory format, precision. Of 16 channels, some columns are taken for one.
CASES = [
    (4, 5, FIRST, torch.float32),
    (16, 8, LAST, torch.float32),
    (16, 8, LAST, torch.bfloat16),
    (130, 1, LAST, torch.float32),
]


def passes(norm: nn.BatchNorm2d, share: slice, case: tuple[int, int, Any, Any]) -> dict[str, np.ndarray]:
    """What two training passes over a share of the batch leave, under a loss in which every value counts differently."""
    channels, side, layout, dtype = case
    drawn = torch.Generator().manual_seed(0)
    first, second, counts = (torch.randn(BATCH, channels, side, side, generator=drawn)[share] for _ in range(3))
    with torch.no_grad():
        norm.weight.copy_(torch.arange(1, channels + 1) / channels)
    norm.train()((3 + 2 * first).to(dtype, memory_format=layout))
    x = (3 + 2 * second).to(dtype, memory_format=layout).requires_grad_()
    out = torch.relu_(norm(x))  # in place, as in the nets
    (out.square() * counts).sum().backward()
    left: dict[str, Any] = {"out": out, "input": x.grad, "scale": norm.weight.grad, "shift": norm.bias.grad}
    left |= {"mean": norm.running_mean, "var": norm.running_var, "steps": norm.num_batches_tracked}
    return {name: tensor.detach().double().numpy() for name, tensor in left.items()}


def of_rank(rank: int, port: int, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    share = slice(3 * rank, 3 * rank + 3)
    results.put((rank, [passes(CpuSyncBatchNorm2d(case[0]), share, case) for case in CASES]))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks() -> dict[int, list[dict[str, np.ndarray]]]:
    results, port = FORKS.Queue(), free_port()
    processes = [FORKS.Process(target=of_rank, args=(rank, port, results), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    return dict(results.get(timeout=PATIENCE_S) for _ in processes)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_two_ranks_have_the_statistics_and_gradients_of_the_whole_batch(
    ranks: dict[int, list[dict[str, np.ndarray]]], number: int
) -> None:
    by_rank, case = {rank: cases[number] for rank, cases in ranks.items()}, CASES[number]
    whole = passes(nn.BatchNorm2d(case[0]), slice(BATCH), case)
    for name in ("mean", "var", "steps"):
        np.testing.assert_allclose(by_rank[0][name], whole[name], rtol=1e-5)
        assert np.array_equal(by_rank[0][name], by_rank[1][name])
    # Coarse values are rounded once more on their way here than there.
    close = {"rtol": 1e-4, "atol": 1e-5} if case[-1] is torch.float32 else {"rtol": 0.02, "atol": 0.02}
    for name in ("out", "input"):
        joined = np.concatenate([by_rank[rank][name] for rank in range(2)])
        np.testing.assert_allclose(joined, whole[name], **close)
    for name in ("scale", "shift"):
        np.testing.assert_allclose(by_rank[0][name] + by_rank[1][name], whole[name], **close)


@pytest.mark.parametrize("training", [True, False])
def test_one_process_alone_computes_plain_batch_norm(training: bool) -> None:
    x = torch.randn(BATCH, 4, 5, 5)
    plain, synced = nn.BatchNorm2d(4).train(training), CpuSyncBatchNorm2d(4).train(training)
    assert torch.equal(plain(x), synced(x))
    assert torch.equal(plain.running_var, synced.running_var)


def test_layers_are_replaced_and_put_back_with_their_state() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2)), nn.BatchNorm1d(2), nn.GroupNorm(1, 2))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert CpuLayerSync().apply(net) is net
    assert [type(module) for module in (net[1][0], *net[2:])] == [CpuSyncBatchNorm2d, nn.BatchNorm1d, nn.GroupNorm]
    CpuLayerSync().revert(net)
    assert type(net[1][0]) is nn.BatchNorm2d
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
