"""Fig. 7: how strongly layers respond, by layer and sorted; and the gradients that come back to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pipeline.report.document import Block, Figure, Paragraph
from pipeline.report.inputs import Layers, ReportInputs, kind_of, short_name
from pipeline.report.theme import Draw, Theme, new_figure


def layers(inputs: ReportInputs) -> list[Block]:
    """The section's blocks; a net that was trained several times is shown once."""
    shown = _once(inputs.responses)
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
        layer_figure(shown, inputs.depths, "gradient", "norm of the gradient", log=True),
    )
    return [Paragraph(f"Mean over the layers: {means}."), responses, gradients]


def _once(responses: Sequence[Layers]) -> list[Layers]:
    found: dict[str, Layers] = {}
    for net in sorted(responses, key=lambda net: (kind_of(net), net["depth"], net["seed"])):
        found.setdefault(net["model"], net)
    return list(found.values())


def layer_figure(
    nets: Sequence[Layers], depths: Sequence[int], what: Literal["std", "gradient"], label: str, log: bool = False
) -> Draw:
    """A line a net: by layer on top, sorted from the largest below."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(9, 6.2)
        rows = figure.subplots(2, 1, sharey=True)
        for axes, in_order in zip(rows, (True, False), strict=True):
            for net in nets:
                values = net[what] if in_order else sorted(net[what], reverse=True)
                axes.plot(
                    range(1, len(values) + 1),
                    values,
                    color=theme.colour(net["depth"], depths),
                    linestyle="-" if net["residual"] else (0, (4, 2)),
                    linewidth=1.6,
                    label=short_name(net),
                )
            axes.set_xlabel("layer" if in_order else "layer, by size")
            axes.set_ylabel(label)
            axes.set_xlim(left=1)
            if log:
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=0)
        rows[1].legend(loc="upper right", ncols=2)
        return figure

    return draw
