"""A detector or an ensemble of detectors as a model of MLflow: images in, a table of the objects in them out.

MLflow stores this file and the modules that it imports with the model, see `pipeline.ensemble.model`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from torch import Tensor

from pipeline.data.boxes import SIDES, Detections
from pipeline.detection.joint import JointDetector
from pipeline.detection.pixels import scenes_of
from pipeline.ensemble.carried import description_in, device_in, members_in
from pipeline.ensemble.pixels import BYTES
from pipeline.errors import PipelineError
from pipeline.learn.input.scenes import detections, normalised
from pipeline.learn.models.detectors import Detector
from pipeline.learn.training.precision import float32_products
from pipeline.predict.detector import as_tested
from pipeline.run.inputs import Resize


class DetectorModel(PythonModel):
    """What the members find together, each with the normalisation of its training (`JointDetector`)."""

    def load_context(self, context: Any) -> None:
        """Raises MlflowException if a file is damaged."""
        try:
            self._load(context)
        except PipelineError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def _load(self, context: Any) -> None:
        description, members = description_in(context.artifacts), list(members_in(context.artifacts))
        self.classes, self.channels = tuple(description["classes"]), description["shape"][2]
        self.resize = description["resize"]  # see `pipeline.run.inputs.Resize`
        self._device = device_in(context)
        self._joint = JointDetector([cast(Detector, member.net) for member in members]).to(self._device)
        self._constants = [(each.mean[0, 0].to(self._device), each.std.to(self._device)) for each in members]

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """The objects in N images, see `objects`.

        Args:
            model_input: see `pixels.scenes_of`.
            params: {"pixels": "uint8" or "unit"}, what numbers mean.
        Raises:
            MlflowException: not such images; MLflow's server answers 400.
        """
        try:
            return self.objects(scenes_of(model_input, self.channels, (params or {}).get("pixels", BYTES)))
        except PipelineError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def objects(self, images: Iterable[Tensor]) -> pd.DataFrame:
        """A row for each object: the index of its image, its class, score and box; an image without objects has no row.

        Rows have the images' order, and of an image the highest score comes first. Boxes are in pixels of the image as it was sent,
        from its upper left corner.

        Args:
            images: see `detect`.
        """
        made = [self.detect(image) for image in images]
        rows = [
            (index, self.classes[label], score, *corners)
            for index, each in enumerate(made)
            for label, score, corners in zip(
                each.labels.tolist(), each.scores.tolist(), each.corners.tolist(), strict=True
            )
        ]
        table = pd.DataFrame(rows, columns=["image", "class", "score", *SIDES])
        return table.astype({"image": "int64", "class": "object", **dict.fromkeys(("score", *SIDES), "float32")})

    def detect(self, image: Tensor) -> Detections:
        """The objects in an image alone, (C, H, W) of any size with pixels from 0 to 255, boxes in its pixels."""
        tested = as_tested(image, Resize.read(self.resize)).to(self._device)
        inputs = [[normalised(tested, mean, std)] for mean, std in self._constants]
        with float32_products("fp32"):
            outputs = self._joint(inputs)
        return detections(outputs, inputs[0], [(image.shape[2], image.shape[1])])[0]


set_model(DetectorModel())
