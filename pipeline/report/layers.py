"""Fig. 7: how strongly layers respond, by layer and sorted; and the gradients that come back to them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Literal

from pipeline.report.document import Block, Figure, Paragraph
from pipeline.report.inputs import Layers, ReportInputs, as_the_paper, ids, kind_of, short_name
from pipeline.report.theme import Draw, Theme, new_figure

APART = 8  # times the median; larger responses are seen beside the others on a logarithmic axis alone


def layers(inputs: ReportInputs) -> list[Block]:
    """The section's blocks; a net that was trained several times is shown once."""
    apart = {name for net in inputs.nets if not as_the_paper(net) for name in ids(net)}
    # Where a net was trained in several ways, the paper's is shown.
    shown = _once(sorted(inputs.responses, key=lambda net: (bool(ids(net) & apart), net["seed"] or 0)))
    if not shown:
        return [Paragraph("No layer responses were measured.")]
    means = ", ".join(f"{short_name(net)} {sum(net['std']) / len(net['std']):.2f}" for net in shown)
    responses = Figure(
        "responses",
        "Standard deviation of what each 3x3 layer gives after batch norm, before ReLU and addition, on validation images, "
        "drawn like the paper's Fig. 7: in the layers' order, and sorted. Dashed: nets without shortcuts.",
        f"Layer responses; mean over the layers: {means}",
        layer_figure(shown, inputs.depths, "std", "standard deviation"),
    )
    gradients = Figure(
        "gradients",
        'Norm of the loss\'s gradient in the same places, an image. The paper verified that it is "healthy" in plain nets '
        "(Sec. 4.1): neither vanished nor exploded.",
        "Gradients: "
        + ", ".join(f"{short_name(n)} {min(n['gradient']):.2g} to {max(n['gradient']):.2g}" for n in shown),
        layer_figure(shown, inputs.depths, "gradient", "norm of the gradient"),
    )
    return [Paragraph(f"Mean over the layers: {means}."), responses, gradients]


def _once(responses: Sequence[Layers]) -> list[Layers]:
    """The first of each net, in the figures' order."""
    found: dict[str, Layers] = {}
    for net in responses:
        found.setdefault(net["model"], net)
    return sorted(found.values(), key=lambda net: (kind_of(net), net["depth"]))


def layer_figure(nets: Sequence[Layers], depths: Sequence[int], what: Literal["std", "gradient"], label: str) -> Draw:
    """A line a net, by layer; deviations also sorted from the largest below.

    Gradients are on a logarithmic axis, deviations where one net's would flatten the others'.
    """
    orders = ("layer", "layer, by size") if what == "std" else ("layer",)

    def draw(theme: Theme) -> Any:
        figure = new_figure(9, 0.6 + 2.8 * len(orders))
        rows = figure.subplots(len(orders), 1, sharey=True, squeeze=False)[:, 0]
        for axes, order in zip(rows, orders, strict=True):
            for net in nets:
                values = net[what] if order == "layer" else sorted(net[what], reverse=True)
                axes.plot(
                    range(1, len(values) + 1),
                    values,
                    color=theme.colour(net["depth"], depths),
                    linestyle="-" if net["residual"] else (0, (4, 2)),
                    linewidth=1.6,
                    label=short_name(net),
                )
            axes.set_xlabel(order)
            axes.set_ylabel(label)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.margins(x=0.01)
            everything = [value for net in nets for value in net[what]]
            if what == "gradient" or max(everything) > APART * statistics.median(everything):
                axes.set_yscale("log")
            else:
                axes.set_ylim(0, 1.05 * max(everything))
        handles, names = rows[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=6)
        return figure

    return draw
