"""predict: names the classes of image files, or the objects in them."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import Config
from pipeline.errors import PipelineError, printable
from pipeline.predict.answers import answers, write
from pipeline.predict.drawing import drawing
from pipeline.predict.images import image_files
from pipeline.predict.objects import objects
from pipeline.predict.source import Finder, predictor
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace, images: Sequence[str] = ()) -> None:
    """Prints an answer for each image; if asked to, draws what is found.

    Args:
        images: files, folders and globs, from the current folder on.
    Raises:
        PipelineError: bad names or weights; or, once all other images are answered, some that cannot be read.
    """
    files, source = image_files(images), predictor(config, workspace)
    output, draw = config.predict.output, config.predict.draw
    if isinstance(source, Finder):
        rows = objects(files, source, config)
        answered = write(drawing(rows, files, draw, config) if draw else rows, output, source.title)
    elif draw:
        raise PipelineError(
            f"predict.draw={printable(draw)} draws boxes, and {source.title} names classes of whole images; leave it out, or "
            "choose a detector (override: predict.weights=run:KEY)"
        )
    else:
        answered = write(answers(files, source, config), output, source.title)
    if failed := len(files) - answered:
        raise PipelineError(
            f"{failed:,} of {len(files):,} images cannot be read and are named above; repair or remove them"
            f"{', the others are answered' if answered else ''}"
        )
