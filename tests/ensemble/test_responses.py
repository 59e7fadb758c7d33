"""Layer responses and gradients, on cases computed by hand and on the paper's nets (Fig. 7)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from nets import make_model, make_net
from torch import nn

from pipeline.ensemble.responses import fresh_net, responses
from pipeline.learn.models import build_model


def batches(count: int = 3) -> list[tuple[torch.Tensor, torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    return [
        (torch.randn(4, 3, 16, 16, generator=random), torch.randint(0, 10, (4,), generator=random))
        for _ in range(count)
    ]


@pytest.mark.parametrize(("depth", "residual"), [(8, True), (8, False), (20, True)])
def test_each_3x3_layer_has_a_response(depth, residual):
    net = build_model(make_model(depth, residual), 10).eval()
    result = responses(net, batches())
    assert len(result.std) == len(result.gradient) == depth - 1  # all but the classifier
    assert min(result.std) > 0 and min(result.gradient) > 0


def test_a_response_is_the_standard_deviation_of_batch_norms_output():
    net = build_model(make_model(8), 10).eval()
    outputs = []
    net.layer2[0].bn1.register_forward_hook(lambda module, inputs, output: outputs.append(output.detach().clone()))
    result = responses(net, batches())
    # Layers 0 to 2 are the stem and two of layer1.
    assert result.std[3] == pytest.approx(torch.cat(outputs).std(correction=0).item(), rel=1e-5)


def test_a_gradient_is_that_of_an_images_loss_before_the_relu():
    net = nn.Sequential(
        nn.Conv2d(1, 1, 3, padding=1, bias=False),
        nn.BatchNorm2d(1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(4, 2),
    ).eval()
    images, labels = torch.randn(3, 1, 2, 2), torch.tensor([0, 1, 1])
    result = responses(net, [(images, labels)])
    before = net[1](net[0](images)).detach().requires_grad_()
    F.cross_entropy(net[4](before.relu().flatten(1)), labels, reduction="sum").backward()
    assert result.gradient == [pytest.approx(before.grad.flatten(1).norm(dim=1).mean().item(), rel=1e-5)]


def test_the_batch_size_does_not_matter_and_the_net_stays_as_it_was():
    net = build_model(make_model(8), 10).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    ((images, labels),) = batches(1)
    split = responses(net, zip(images.split(3), labels.split(3), strict=True))
    together = responses(net, [(images, labels)])
    assert split.std == pytest.approx(together.std) and split.gradient == pytest.approx(together.gradient)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters()) and not net.layer1[0].bn1._forward_hooks


def test_a_fresh_net_has_the_seeds_weights_and_the_statistics_of_its_images():
    ((images, _),) = batches(1)
    record, state = make_net(20, residual=False, seed=3), torch.get_rng_state()
    net = fresh_net(record, images)
    assert torch.equal(torch.get_rng_state(), state) and not net.training
    torch.manual_seed(3)
    began = build_model(record.model, 10)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), began.parameters(), strict=True))
    (first,) = [module for name, module in net.named_modules() if name == "bn1"]
    assert torch.allclose(first.running_mean, net.conv1(images).mean((0, 2, 3)), atol=1e-5)


def test_a_net_without_such_layers_is_refused():
    with pytest.raises(ValueError, match="no 3x3 convolution is followed by batch norm"):
        responses(build_model(make_model(11, family="vgg_small"), 10).eval(), [])
