"""The nets of "Deep Residual Learning for Image Recognition" (He et al. 2015), and those before it.

Needs torch alone; the predecessors are torchvision's, which is imported when one is built.
"""

from pipeline.learn.models.build import build_model

__all__ = ["build_model"]
