"""From images to the names of their classes, or to the objects in them.

from pipeline.predict import load_net
net = load_net("runs/<key>/best.safetensors")
probabilities = net(images)  # (N, C, H, W) uint8 -> (N, K) float32; net.classes has the K names
detections = net(images)  # of a detector: corners, scores and labels of the objects in each image
"""

from pipeline.predict.net import load_net

__all__ = ["load_net"]
