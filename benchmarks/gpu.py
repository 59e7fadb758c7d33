"""Training on a CUDA device: ResNet-20 plain, compiled and as CUDA graphs, ResNet-50 at ImageNet's size, several GPUs."""

from __future__ import annotations

import gc
import time
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks import rates
from benchmarks.harness import Bench, Measured, Row
from benchmarks.synthetic import changed, paper_config, synthetic_store
from benchmarks.training import command_rate, step_row, title
from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.run.fit import STEPS_PER_CALL

KEPT_OF_CAPTURED = 0.9  # share of a captured loop's speed that training must keep
PAPER_STEPS, PAPER_S = 64_000, 150.0  # of Sec. 4.2; seconds that they may take on one H100
# ResNet-50 v1.5, batch 256, mixed precision, one A100 of a DGX A100: NVIDIA/DeepLearningExamples,
# PyTorch/Classification/ConvNets/resnet50v1.5/README.md, "Training performance". It includes decoding by DALI.
PUBLISHED_IMAGES_PER_S = 2470.0
GRAPHS: dict[str, Any] = {"steps_per_call": STEPS_PER_CALL, "cuda_graphs": True}
WARM_UP = 11  # steps on a side stream before the capture, as torch's notes on CUDA graphs ask for


def section(bench: Bench) -> list[Measured]:
    """
    Raises:
        ValueError: there is no CUDA device.
    """
    if bench.device.type != "cuda":
        raise ValueError(f"section gpu needs a CUDA device, and torch {torch.__version__} finds none here")
    rows = [*resnet20_rows(bench), *resnet50_rows(bench)]
    if torch.cuda.device_count() > 1:
        rows.append(ranks_row(bench, torch.cuda.device_count()))
    return [bench.measure(row) for row in rows]


def resnet20_rows(
    bench: Bench, depth: int = 20, images: int = 50_000, batch_size: int = 128, steps: int = 4_000
) -> list[Row]:
    """Against the bare loop; as CUDA graphs against the bare loop captured as one graph.

    Args:
        steps: of each run, within one epoch, which names images several times to be long enough.
    """
    repeats = -(-steps // (images // batch_size))
    store = synthetic_store(bench.folder("gpu20"), images=images, num_val=images // 10, repeats=repeats)
    config = changed(
        paper_config(store, bench.work / "runs", depth),
        recipe={"precision": "bf16", "batch_size": batch_size},
        trainer={"accelerator": "gpu" if bench.device.type == "cuda" else "cpu", "compile": False},
    )
    plain = rates.of_steps(config, steps)
    compiled = changed(plain, trainer={"compile": True})
    graphed = [changed(each, trainer=GRAPHS) for each in (plain, compiled)]
    return [
        *(step_row(each, store, bench.device) for each in (plain, compiled)),
        *(captured_row(each, store, bench.device) for each in graphed),
        Row(
            name=f"{PAPER_STEPS:,} steps of {title(compiled)} as CUDA graphs, against the captured loop",
            unit="s",
            bar=PAPER_S,
            judged="ours <=",
            ours=lambda: PAPER_STEPS / rates.fit_rate(graphed[-1], store),
            reference=lambda: PAPER_STEPS / captured_rate(graphed[-1], store, bench.device),
            pairs=1,
        ),
    ]


def captured_row(config: Config, store: Store, device: torch.device) -> Row:
    return Row(
        name=f"training step rate, {title(config)} as CUDA graphs, against the captured loop",
        unit="steps/s",
        bar=KEPT_OF_CAPTURED,
        ours=partial(rates.fit_rate, config, store),
        reference=partial(captured_rate, config, store, device),
    )


def captured_rate(config: Config, store: Store, device: torch.device) -> float:
    """Steps a second of replays of one step over one batch in memory: no data, no metrics, no rate that changes.

    That is the bare loop that is hardest to beat. On a CPU it is the plain bare loop.
    """
    if device.type != "cuda":
        return rates.bare_rate(config, store, device)
    recipe = config.recipe
    torch.backends.cudnn.benchmark = True  # as `fit`
    net, images, labels = rates.ready_to_train(config, store, device)
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
    gc.collect()  # a graph of an earlier training may not be freed during the capture
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


def resnet50_rows(
    bench: Bench, depth: int = 50, side: int = 224, images: int = 2_560, batch_size: int = 256, steps: int = 100
) -> list[Row]:
    """Plain and compiled, channels_last, bf16, against the bare loop and the published rate.

    The store is of noise in arrays, cropped on the device with a margin of 4 pixels: neither decoding nor ImageNet's crops
    of random size are in the figure.
    """
    classes = min(1000, images // 4)
    repeats = -(-steps * batch_size // images)
    folder = bench.folder("gpu50")
    store = synthetic_store(folder, side=side, classes=classes, images=images, num_val=classes, repeats=repeats)
    config = changed(
        paper_config(store, bench.work / "runs"),
        # The published figure was measured with the stride in the 3x3.
        model={"family": "imagenet", "depth": depth, "shortcut": "B", "stride_on": "3x3"},
        # A lower rate than the paper's: labels of noise teach nothing, and a diverged run would be ended.
        recipe={"precision": "bf16", "batch_size": batch_size, "normalize": "channel", "lr": 0.01},
        trainer={"accelerator": "gpu" if bench.device.type == "cuda" else "cpu", "compile": False},
    )
    plain = rates.of_steps(config, steps)
    compiled = changed(plain, trainer={"compile": True})
    published = Row(
        name=f"images of training, {title(compiled)}, batch {batch_size}, against the published rate of an A100",
        unit="images/s",
        bar=None,
        ours=lambda: rates.fit_rate(compiled, store) * batch_size,
        reference=lambda: PUBLISHED_IMAGES_PER_S,
        pairs=1,
    )
    return [*(step_row(each, store, bench.device) for each in (plain, compiled)), published]


def ranks_row(bench: Bench, count: int, batch_size: int = 128) -> Row:
    """All GPUs against one, the same global batch of `batch_size` images a GPU."""
    config = changed(
        paper_config(bench.store, bench.folder("gpus")),
        recipe={"batch_size": batch_size * count},
        trainer={"accelerator": "gpu", "compile": False},
    )
    epoch = len(bench.store.split_indices("full")[0]) // config.recipe.batch_size
    rate = partial(command_rate, bench.work / "gpus", rates.of_steps(config, min(400, epoch)), bench.store)
    return Row(
        name=f"training step rate, {title(config)}, batch {config.recipe.batch_size}, {count} GPUs against one",
        unit="steps/s",
        bar=None,
        ours=lambda: rate(f"trainer.devices={count}"),
        reference=rate,
        pairs=1,
    )
