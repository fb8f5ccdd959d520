"""One HTML page on one or several runs, which needs nothing but a browser."""

from robust_tf.report.page import build
from robust_tf.report.runs import Run, RunError, read_run
from robust_tf.report.saving import write

__all__ = ["Run", "RunError", "build", "read_run", "write"]
