"""The nets of "Deep Residual Learning for Image Recognition" (He et al. 2015); needs torch alone."""

from pipeline.models.resnet import build_model
from pipeline.models.zoo import net_name

__all__ = ["build_model", "net_name"]
