"""predict: names the classes of image files."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.predict.answers import answers, write
from pipeline.predict.images import image_files
from pipeline.predict.source import predictor
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace, images: Sequence[str] = ()) -> None:
    """Prints an answer for each image.

    Args:
        images: files, folders and globs, from the current folder on.
    Raises:
        PipelineError: bad names or weights; or, once all other images are answered, some that cannot be read.
    """
    files, source = image_files(images), predictor(config, workspace)
    answered = write(answers(files, source, config), config.predict.output, source.title)
    if failed := len(files) - answered:
        raise PipelineError(
            f"{failed:,} of {len(files):,} images cannot be read and are named above; repair or remove them"
            f"{', the others are answered' if answered else ''}"
        )
