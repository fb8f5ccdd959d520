"""Defences at inference: what is done to an image before the network judges it."""

from robust_tf.inference.manifold import GATE, ManifoldTransformation

__all__ = ["GATE", "ManifoldTransformation"]
