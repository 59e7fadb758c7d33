"""Blocks and nets of `pipeline.learn.models.resnet`: shapes, shortcuts, parity with torchvision, errors."""

import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
import torchvision
from nets import make_model
from torch import nn

from pipeline.config import ModelConfig
from pipeline.learn.models import build_model
from pipeline.learn.models.resnet import BasicBlock, Bottleneck, PadShortcut


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors here are too small to share among threads; on a busy machine, sharing them costs tenfold."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_option_a_subsamples_and_appends_zero_channels():
    image = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    out = PadShortcut(extra=2, stride=2)(image)
    assert out.tolist() == [[[[1.0, 3.0], [9.0, 11.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]]


def test_option_a_may_put_half_of_the_zeros_before_the_channels():
    image = torch.ones(1, 2, 1, 1)
    assert PadShortcut(extra=2, stride=1, zeros="around")(image).flatten().tolist() == [0, 1, 1, 0]
    assert PadShortcut(extra=3, stride=1, zeros="around")(image).flatten().tolist() == [0, 1, 1, 0, 0]
    net = build_model(make_model(8, shortcut_zeros="around"), 10)
    assert net.layer2[0].downsample.padding == (0, 0, 0, 0, 8, 8)
    assert net.layer3[0].downsample.padding == (0, 0, 0, 0, 16, 16)


def test_option_a_matches_the_convolutions_on_odd_maps():
    block = BasicBlock(4, 8, 2, make_model())
    assert block(torch.zeros(2, 4, 7, 5)).shape == (2, 8, 4, 3)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_block_adds_its_input_unless_plain(block):
    images = torch.rand(2, 4 * block.expansion, 3, 3)  # not negative, so the last ReLU passes them
    for residual in (True, False):
        net = block(4 * block.expansion, 4, 1, make_model(50, residual))
        for parameter in net.parameters():
            nn.init.zeros_(parameter)
        assert torch.equal(net(images), images if residual else torch.zeros_like(images))


@pytest.mark.parametrize(("stride_on", "expected"), [("1x1", (2, 1)), ("3x3", (1, 2))])
def test_bottleneck_subsamples_in_the_chosen_convolution(stride_on, expected):
    block = Bottleneck(16, 8, 2, make_model(50, stride_on=stride_on))
    assert (block.conv1.stride[0], block.conv2.stride[0]) == expected


@pytest.mark.parametrize(("option", "projections"), [("A", 0), ("B", 3), ("C", 16)])
def test_resnet34_has_the_projections_of_its_option(option, projections):
    with torch.device("meta"):
        net = build_model(make_model(34, shortcut=option), 1000)
    assert sum(name.endswith("downsample.0") for name, _ in net.named_modules()) == projections


@pytest.mark.parametrize(("depth", "residual", "option"), [(8, 1, "B"), (8, 0, "A"), (18, 1, "A"), (50, 1, "B")])
def test_every_parameter_gets_a_gradient(depth, residual, option):
    net = build_model(make_model(depth, bool(residual), shortcut=option), 5)
    logits = net(torch.randn(4, 3, 32, 32))
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize("choices", [{"shortcut": "A"}, {"shortcut": "C", "stride_on": "3x3"}, {"residual": False}])
def test_every_parameter_of_a_bottleneck_gets_a_gradient(choices):
    block = Bottleneck(8, 4, 2, make_model(50, **choices))
    block(torch.randn(2, 8, 6, 6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters())


def test_bfloat16_and_channels_last_give_nearly_the_same_logits():
    torch.manual_seed(0)
    net = build_model(make_model(8), 10).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = net(images)
        net.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
        torch.testing.assert_close(net(images), expected, atol=1e-5, rtol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(net(images).float(), expected, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("depth", [18, 50])
def test_logits_equal_torchvisions_with_the_same_weights(depth):
    torch.manual_seed(depth)
    theirs = getattr(torchvision.models, f"resnet{depth}")()
    ours = build_model(make_model(depth, shortcut="B", stride_on="3x3"), 1000)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), atol=1e-5, rtol=1e-5)
        if depth == 18:
            ours.train(), theirs.train()  # with the batch's statistics
            torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("residual", [True, False])
def test_cifar_net_computes_section_4_2_written_out(residual):
    torch.manual_seed(0)
    net = build_model(make_model(14, residual), 10).eval()
    weights = net.state_dict()

    def conv_bn(x, conv, bn, stride):
        out = F.conv2d(x, weights[f"{conv}.weight"], stride=stride, padding=1)
        return F.batch_norm(out, *(weights[f"{bn}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))

    images = torch.randn(2, 3, 32, 32)
    x = F.relu(conv_bn(images, "conv1", "bn1", 1))
    for stage, block in ((stage, block) for stage in (1, 2, 3) for block in (0, 1)):
        name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
        out = conv_bn(F.relu(conv_bn(x, f"{name}.conv1", f"{name}.bn1", stride)), f"{name}.conv2", f"{name}.bn2", 1)
        if residual:
            out[:, : x.shape[1]] += x[:, :, ::stride, ::stride]  # the channels beyond get zeros
        x = F.relu(out)
    expected = x.mean((2, 3)) @ weights["fc.weight"].T + weights["fc.bias"]
    with torch.no_grad():
        torch.testing.assert_close(net(images), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depth", [34, 101, 152])
def test_state_dict_has_torchvisions_keys_and_shapes(depth):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, f"resnet{depth}")()
        ours = build_model(make_model(depth, shortcut="B"), 1000)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in theirs.state_dict().items()
    ]


@pytest.mark.parametrize(("choice", "fan"), [({}, 288), ({"init_fan": "fan_in"}, 288), ({"init_fan": "fan_out"}, 576)])
def test_weights_are_drawn_as_he_init_by_the_chosen_fan(choice, fan):
    torch.manual_seed(0)
    net = build_model(make_model(20, **choice), 10)
    conv = net.layer3[0].conv1  # 32 -> 64 planes
    assert conv.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.03)
    assert conv.weight.mean().item() == pytest.approx(0, abs=0.003)
    assert not net.fc.bias.any()
    assert all(module.bias is None for module in net.modules() if isinstance(module, nn.Conv2d))
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 19  # at a block's end, too, they start at scale one and shift zero
    assert all((norm.weight == 1).all() and not norm.bias.any() and norm.eps == 1e-5 for norm in norms)


@pytest.mark.parametrize(("family", "depth", "last"), [("cifar", 20, "bn2"), ("imagenet", 50, "bn3")])
def test_batch_norm_scales_start_as_chosen_beside_the_same_weights(family, depth, last):
    def fresh(norm_scale):
        torch.manual_seed(0)
        return build_model(make_model(depth, family=family, norm_scale=norm_scale), 10)

    one, zero, uniform = map(fresh, ("one", "zero_last", "uniform"))
    assert all(
        torch.equal(a.weight, b.weight) for a, b in zip(_of(one, nn.Conv2d), _of(uniform, nn.Conv2d), strict=True)
    )
    zeroed = [name for name, norm in zero.named_modules() if isinstance(norm, nn.BatchNorm2d) and not norm.weight.any()]
    blocks = sum(isinstance(module, BasicBlock | Bottleneck) for module in zero.modules())
    assert len(zeroed) == blocks and all(name.endswith(f".{last}") for name in zeroed)
    scales = torch.cat([norm.weight for norm in _of(uniform, nn.BatchNorm2d)])
    assert scales.min() >= 0 and scales.max() <= 1 and scales.mean().item() == pytest.approx(0.5, abs=0.05)


def _of(net, kind):
    return [module for module in net.modules() if isinstance(module, kind)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"residual": False, "norm_scale": "zero_last"}, "zero_last with plain-20, whose layers would pass no signal"),
        ({"family": "lenet"}, "model.family='lenet'; choose one of cifar, imagenet"),
        ({"stride_on": "2x2"}, "model.stride_on='2x2'; choose one of 1x1, 3x3"),
        ({"depth": 2}, "model.depth=2 is not 6n+2"),
    ],
)
def test_an_unknown_net_is_refused_with_what_is_allowed(change, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        ModelConfig(**{"depth": 20, "residual": True, "shortcut": "A"} | change)


def test_import_needs_torch_alone():
    heavy = {"torchvision", "rich", "pytorch_lightning", "omegaconf", "hydra", "pydantic", "ray", "mlflow", "dvc"}
    script = """
import sys, pipeline.learn.models.__main__
from pipeline.config.model import ModelConfig
from pipeline.learn.models import build_model
build_model(ModelConfig(depth=8, residual=True, shortcut="A"), 2)
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())
