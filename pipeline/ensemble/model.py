"""A net or an ensemble as a model of MLflow: images in, (averaged) probabilities of named classes out.

MLflow stores this file and the modules that it imports with the model, and runs it when a server loads the model
("models from code"). Nothing is unpickled: the weights are safetensors, the rest is JSON. An import added here or in
those modules travels with every model, under a package name of its own (`pipeline.tracking.models`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from pipeline.ensemble.carried import description_in, device_in, members_in
from pipeline.ensemble.forward import average, class_probabilities, ready, tempered
from pipeline.ensemble.pixels import BYTES, pixels_of
from pipeline.errors import PipelineError
from pipeline.learn.input.augment import PadCrop

BATCH = 128  # images in a forward pass


class EnsembleModel(PythonModel):
    """Members' probabilities, averaged after the softmax with the members' weights."""

    def load_context(self, context: Any) -> None:
        """Raises MlflowException if a file is damaged."""
        try:
            self._load(context)
        except PipelineError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def _load(self, context: Any) -> None:
        description = description_in(context.artifacts)
        self.classes, self.shape = tuple(description["classes"]), tuple(description["shape"])
        self.resize = description["resize"]  # see `pipeline.run.inputs.Resize`
        self._device = device_in(context)
        self._weights = [member["weight"] for member in description["members"]]
        self._temperatures = [member["temperature"] for member in description["members"]]
        self._nets, self._inputs = [], []
        for member in members_in(context.artifacts):
            self._nets.append(ready(member.net, self._device))
            self._inputs.append(PadCrop(member.mean, member.std, padding=0, flip=False).to(self._device))

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """(N, K) float32 probabilities of N images; the columns are the names of the classes.

        Args:
            model_input: see `pixels.pixels_of`. Images have the size that the nets were validated on: small images are
                whole, others are centre crops.
            params: {"pixels": "uint8" or "unit"}, what numbers mean.
        Raises:
            MlflowException: not such images; MLflow's server answers 400.
        """
        try:
            return self.probabilities(pixels_of(model_input, self.shape, (params or {}).get("pixels", BYTES)))
        except PipelineError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def probabilities(self, images: torch.Tensor) -> pd.DataFrame:
        """`predict`, of (N, H, W, C) pixels from 0 to 255."""
        parts = [self._average(chunk.to(self._device)) for chunk in images.split(BATCH)]
        return pd.DataFrame(np.concatenate(parts), columns=list(self.classes))

    def _average(self, images: torch.Tensor) -> np.ndarray:
        members = zip(self._nets, self._inputs, self._temperatures, strict=True)
        probabilities = [
            tempered(class_probabilities(net, inputs.test(images)).cpu().numpy(), temperature)
            for net, inputs, temperature in members
        ]
        return average(probabilities, self._weights)


set_model(EnsembleModel())
