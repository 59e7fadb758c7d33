"""Table of the paper's nets: `python -m pipeline.learn.models [--json]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from pipeline.learn.models.cost import Cost, net_cost
from pipeline.learn.models.zoo import NETS, Net

# Family -> title, and the figure that the paper prints for it.
_TABLES = {
    "cifar": ("CIFAR-10, 32x32 (Sec. 4.2; Table 6: parameters)", "Table 6"),
    "imagenet": ("ImageNet, 224x224 (Table 1: multiply-adds)", "Table 1"),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.learn.models", description="Size and cost of the paper's nets."
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of tables")
    as_json = parser.parse_args(argv).json
    rows = [(net, net_cost(net)) for net in NETS]
    if as_json:
        print(json.dumps([_row(net, cost) for net, cost in rows], indent=2, ensure_ascii=False))
    else:
        _print_tables(rows)


def _row(net: Net, cost: Cost) -> dict[str, Any]:
    printed = {"paper_params": net.paper_params, "paper_flops": net.paper_flops}
    return {"name": net.name, **asdict(net.model), "shortcut": net.shortcut, **printed, **asdict(cost)}


def _print_tables(rows: list[tuple[Net, Cost]]) -> None:
    # Imported here so that --json, like the rest of the package, needs torch alone.
    from rich import box
    from rich.console import Console
    from rich.table import Table

    for family, (title, printed) in _TABLES.items():
        table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
        table.add_column("net", no_wrap=True)
        for column in ("option", "layers", "params", "mult-adds", printed):
            table.add_column(column, justify="right", no_wrap=True)
        for net, cost in rows:
            if net.model.small == (family == "cifar"):
                counts = (f"{cost.layers:,}", f"{cost.params:,}", f"{cost.macs / 1e6:,.3f}M")
                paper = net.paper_params or net.paper_flops or ""
                table.add_row(net.name, net.shortcut or "none", *counts, paper)
        Console().print(table)


if __name__ == "__main__":
    main()
