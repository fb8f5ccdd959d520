"""One HTML page on one or several runs, which needs nothing but a browser."""

from robust_tf.report.model_analysis import ModelAnalysis, analyze
from robust_tf.report.page import build
from robust_tf.report.saving import write

__all__ = ["ModelAnalysis", "analyze", "build", "write"]
