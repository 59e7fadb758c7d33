"""export: writes a net or the ensemble as a file that other programs run."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config
from pipeline.data.store import open_store
from pipeline.ensemble.build import read_ensemble
from pipeline.ensemble.members import weights_file
from pipeline.errors import PipelineError
from pipeline.predict.detector import ImageDetector
from pipeline.predict.exported import SUFFIXES, Averaged, export
from pipeline.predict.net import ImageClassifier, load_net
from pipeline.predict.source import named_net
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    """Prints the file's name, what it takes and how far it is from torch.

    Raises:
        PipelineError: no such ensemble, run or file, or an export that differs from torch.
    """
    if weights := config.export.weights:
        net = named_net("export.weights", weights, config, workspace)
        made, name = Averaged([_classifier(net)]), f"{net.record.name.lower()}-{net.record.key}"
    else:
        made, name = _ensemble(config, workspace), f"{config.data.name}-ensemble"
    form = config.export.format
    path = Path(config.export.path).expanduser() if config.export.path else Path(f"{name}{SUFFIXES[form]}")
    difference = export(made, path.absolute(), form)
    shape = ", ".join(map(str, made.shape))
    print(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB; takes images (N, {shape}) uint8, gives probabilities (N, "
        f"{len(made.classes)}), which differ from torch's by at most {difference:.1g}"
    )


def _ensemble(config: Config, workspace: Workspace) -> Averaged:
    store = open_store(workspace.store(config.data.name))
    ensemble = read_ensemble(workspace.ensemble, store.manifest.content_hash)
    nets = [load_net(workspace.ensemble / weights_file(net)) for net in ensemble.members]
    return Averaged(
        [_classifier(net) for net in nets],
        [net.weight or 0.0 for net in ensemble.members],
        [net.temperature for net in ensemble.members],
    )


def _classifier(net: ImageClassifier | ImageDetector) -> ImageClassifier:
    """`net`; raises PipelineError if it is no such net."""
    if not isinstance(net, ImageClassifier):
        raise PipelineError(
            f"{net.record.name} finds objects, and exports are of nets that classify; `pipeline predict` finds objects in "
            "image files, and pipeline.predict.load_net does in Python"
        )
    return net
