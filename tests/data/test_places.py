from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

from pipeline.data.places import ILSVRC, OFFICIAL


def test_the_official_table_is_torchvisions():
    """Read from its source text: importing torch takes longer than all other tests here."""
    folder = Path(importlib.util.find_spec("torchvision").origin).parent / "datasets"
    for name in ("cifar10", "cifar100"):
        body = next(
            n.body for n in ast.parse((folder / "cifar.py").read_text()).body if getattr(n, "name", "") == name.upper()
        )
        facts = {n.targets[0].id: ast.literal_eval(n.value) for n in body if isinstance(n, ast.Assign)}
        assert OFFICIAL[name] == (facts["filename"], facts["tgz_md5"], facts["url"])
    text = (folder / "imagenet.py").read_text()
    assert all(f'("{OFFICIAL[key].file}", "{OFFICIAL[key].md5}")' in text for key in ILSVRC)
