"""The bare loop that is hardest to beat on a GPU: one step over one batch in memory, captured as one CUDA graph."""

from __future__ import annotations

import gc
import time

import torch
import torch.nn.functional as F

from benchmarks import rates
from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.fast.compiled import compile_net

WARM_UP = 11  # steps on a side stream before the capture, as torch's notes on CUDA graphs ask for


def graphed_rate(config: Config, store: Store, device: torch.device) -> float:
    """Steps a second of replays alone: no data, no metrics, no rate that changes. On a CPU, of the plain bare loop."""
    if device.type != "cuda":
        return rates.bare_rate(config, store, device)
    recipe = config.recipe
    torch.manual_seed(config.seed)
    torch.backends.cudnn.benchmark = True  # as `fit`
    net = rates.new_net(config, store).to(device)
    if config.trainer.compile is True:
        compile_net(net)
    images = rates.batch_of(recipe.batch_size, store, device)
    labels = torch.randint(len(store.manifest.classes), (recipe.batch_size,), device=device)
    optimiser = torch.optim.SGD(
        net.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=recipe.precision == "bf16", cache_enabled=False):
            logits = net(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimiser.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    gc.collect()  # a graph of an earlier training may not be freed during the recording
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        step()
    for _ in range(WARM_UP):
        graph.replay()
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(recipe.max_steps):
        graph.replay()
    torch.cuda.synchronize(device)
    return recipe.max_steps / (time.perf_counter() - start)
