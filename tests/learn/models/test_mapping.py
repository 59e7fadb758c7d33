"""Weights made elsewhere: names of well-known public code, wrappers, what does not fit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from nets import make_model
from torch import nn

from pipeline.learn.models import build_model
from pipeline.learn.models.mapping import head_name, mapped, state_in


class TheirBlock(nn.Module):
    """As public CIFAR-10 code writes it: option A pads half of the channels before and half after."""

    def __init__(self, planes_in, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(planes_in, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.widens = planes != planes_in

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        quarter = out.shape[1] // 4
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter)) if self.widens else x
        return F.relu(out + short)


class Theirs(nn.Module):
    def __init__(self, n=1, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = [16, 16, 32, 64]
        for stage in (1, 2, 3):
            blocks = [
                TheirBlock(widths[stage - 1 if i == 0 else stage], widths[stage], 1 + (i == 0 and stage > 1))
                for i in range(n)
            ]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        out = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(out.mean((2, 3)))


@pytest.fixture
def theirs():
    torch.manual_seed(0)
    net = Theirs().train()
    net(torch.randn(8, 3, 32, 32))  # batch norm's statistics are no longer those of a fresh net
    return net.eval()


def ours(in_channels=3):
    return build_model(make_model(8, shortcut_zeros="around"), 10, in_channels)


@pytest.mark.parametrize("prefix", ["", "module.", "module.model."])
def test_public_names_and_wrappers_give_the_same_logits(theirs, prefix):
    net = ours()
    state = {prefix + name: tensor for name, tensor in theirs.state_dict().items()}
    net.load_state_dict(mapped(state, net))
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(net.eval()(images), theirs(images), atol=1e-5, rtol=0)


def test_weights_that_match_by_order_and_shape_alone_are_refused_with_their_names(theirs):
    state = {f"part{at}.{name.rsplit('.', 1)[-1]}": t for at, (name, t) in enumerate(theirs.state_dict().items())}
    with pytest.raises(ValueError, match=r"it has part0\.weight, .*rename them to the names that the net has"):
        mapped(state, ours())


PLAINLY = {"init_weights": False}  # torchvision's own initialisation takes seconds


@pytest.mark.parametrize(
    ("name", "options", "family", "depth"),
    [("vgg11_bn", PLAINLY, "vgg_bn", 11), ("alexnet", {}, "alexnet", 8), ("googlenet", PLAINLY, "googlenet", 22)],
)
def test_torchvisions_names_load_as_they_are(name, options, family, depth):
    made = torchvision.models.get_model(name, weights=None, **options)
    net = build_model(make_model(depth, family=family), 1000)
    net.load_state_dict(mapped(made.state_dict(), net))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(images), made.eval()(images), atol=1e-5, rtol=1e-5)


def test_the_last_layer_stays_the_nets_own_where_it_is_not_wanted():
    net, other = ours(), Theirs(classes=100)
    with pytest.raises(ValueError, match=r"other shapes: fc.weight \(100, 64\) where \(10, 64\) is wanted"):
        mapped(other.state_dict(), net)
    result = mapped(other.state_dict(), net, head=False)
    assert head_name(net) == "fc"
    assert torch.equal(result["fc.weight"], net.state_dict()["fc.weight"])
    assert torch.equal(result["layer3.0.conv1.weight"], other.state_dict()["layer3.0.conv1.weight"])


def test_a_last_layer_under_a_name_of_its_own_is_left_out_where_it_is_not_wanted():
    net, other = ours(), Theirs(classes=100)
    theirs = {name.replace("linear.", "heads.out."): tensor for name, tensor in other.state_dict().items()}
    assert "heads.out.weight" in theirs
    result = mapped(theirs, net, head=False)
    assert torch.equal(result["fc.weight"], net.state_dict()["fc.weight"])
    assert torch.equal(result["layer3.0.conv1.weight"], theirs["layer3.0.conv1.weight"])
    with pytest.raises(ValueError, match=r"it has spare.weight that the net has not"):
        mapped({**theirs, "spare.weight": torch.zeros(10, 63)}, net, head=False)
    with pytest.raises(ValueError, match=r"heads\.out\.weight"):  # two matrices could be the last layer
        mapped({**theirs, "another.weight": torch.zeros(5, 64)}, net, head=False)


def test_what_does_not_fit_is_refused_with_its_names_and_a_hint(theirs):
    with pytest.raises(
        ValueError, match=r"it lacks layer1.1.conv1.weight, .* and \d+ more; its weights are those of 8 layers"
    ):
        mapped(theirs.state_dict(), build_model(make_model(14), 10))
    with pytest.raises(ValueError, match=r"it has layer1.1.conv1.weight, .* that the net has not; .* of 14 layers"):
        mapped(Theirs(n=2).state_dict(), ours())
    with pytest.raises(ValueError, match=r"other shapes: conv1\.weight"):
        mapped(theirs.state_dict(), ours(in_channels=1))


def test_state_dicts_are_found_where_checkpoints_keep_them(theirs):
    state = theirs.state_dict()
    for holder in (
        {"state_dict": state, "epoch": 3},
        {"net": state, "acc": 0.9},
        {"whatever": state, "lr": 0.1},
        state,
    ):
        assert state_in(holder).keys() == state.keys()
    with pytest.raises(ValueError, match="several state dicts"):
        state_in({"a": state, "b": state})
    with pytest.raises(ValueError, match=r"no state dicts \(its keys: epoch\)"):
        state_in({"epoch": 3})
    with pytest.raises(ValueError, match="holds a Tensor, no weights by name"):
        state_in(torch.zeros(1))


def test_two_names_for_one_layer_are_refused():
    net = ours()
    state = net.state_dict()
    with pytest.raises(ValueError, match=r"it has linear\.weight"):
        mapped({**state, "linear.weight": state["fc.weight"]}, net)
