"""What a run tells while it trains: progress bar or lines, metrics.jsonl, TensorBoard."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import tensorflow as tf
import tqdm

from robust_tf import files


class Reporter:
    """Writes one run's progress; on any worker but the chief it does nothing.

    Args:
      run_dir: folder of the run.
      epochs: of the run, for the display.
      start_epoch: the epoch that is trained first; later lines of metrics.jsonl, left by a process
        that was killed before its checkpoint, are dropped.
      chief: whether to write at all.
    """

    def __init__(self, run_dir: str, epochs: int, start_epoch: int, chief: bool):
        self.epochs, self.chief = epochs, chief
        self.bar: Any = None
        self._later = 0  # images of the epochs after this one
        self._path = os.path.join(run_dir, "metrics.jsonl")
        self._rows: list[dict[str, Any]] = []
        if not chief:
            return
        if start_epoch and tf.io.gfile.exists(self._path):
            self._rows = read_rows(self._path, "epoch", start_epoch + 1)
        self._writer = tf.summary.create_file_writer(os.path.join(run_dir, "tensorboard"))

    def open_epoch(self, epoch: int, steps: int, done: int, batch_size: int) -> None:
        """Starts the bar of an epoch, `done` of its `steps` already behind."""
        if self.chief:
            self._later = (self.epochs - epoch - 1) * steps * batch_size
            self.bar = tqdm.tqdm(
                total=steps * batch_size,
                initial=done * batch_size,
                desc=f"epoch {epoch + 1}/{self.epochs}",
                unit="img",
                unit_scale=True,
                bar_format="{desc} {percentage:3.0f}% {bar:8} {rate_fmt}{postfix}",
                dynamic_ncols=True,
                leave=False,
                disable=not sys.stderr.isatty(),
            )

    def advance(self, images: int, metrics: dict[str, float]) -> None:
        """Moves the bar on; shows the time left, of the epoch and of the run, and running means."""
        if not self.chief or self.bar.disable:
            return
        rate = self.bar.format_dict["rate"]
        left = ""
        if rate:
            epoch = max(self.bar.total - self.bar.n - images, 0) / rate
            spans = [tqdm.tqdm.format_interval(t) for t in (epoch, epoch + self._later / rate)]
            left = f"{spans[0]} left, run {spans[1]} | "
        # Accuracies first: a narrow terminal cuts the end off.
        names = sorted(metrics, key=lambda name: not name.endswith("accuracy"))
        shown = " ".join(_short(name, metrics[name]) for name in names)
        self.bar.set_postfix_str(left + shown, refresh=False)
        self.bar.update(images)

    def close_epoch(self, row: dict[str, Any]) -> None:
        """Ends the bar; prints and records the epoch."""
        if not self.chief:
            return
        self.bar.close()
        hidden = ("epoch", "step", "learning_rate", "collapsed")
        text = " ".join(_short(name, row[name]) for name in row if name not in hidden)
        text += " collapsed" * bool(row.get("collapsed"))
        print(f"epoch {row['epoch']}/{self.epochs} {text}", flush=True)
        self._rows.append(row)
        self._write()
        with self._writer.as_default(step=row["step"]):
            for name, value in row.items():
                if name not in ("epoch", "step"):
                    tf.summary.scalar(name, float(value))
        self._writer.flush()

    def go_back(self, epochs: int) -> None:
        """Ends the bar, and drops the rows of all but the first so many epochs."""
        if self.chief:
            self.bar.close()
            self._rows = [row for row in self._rows if row["epoch"] <= epochs]
            self._write()

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Numbers for TensorBoard."""
        if self.chief:
            with self._writer.as_default(step=step):
                for name, value in values.items():
                    tf.summary.scalar(name, value)

    def images(self, name: str, images: tf.Tensor, step: int) -> None:
        """A few images for TensorBoard, where they are images."""
        if self.chief and images.shape.rank == 4 and images.shape[-1] in (1, 3):
            with self._writer.as_default(step=step):
                tf.summary.image(name, images, max_outputs=8)

    def text(self, name: str, text: str) -> None:
        """A text for TensorBoard, as preformatted Markdown."""
        if self.chief:
            with self._writer.as_default(step=0):
                tf.summary.text(name, "```\n" + text + "\n```")

    def _write(self) -> None:
        files.write_lines(self._path, self._rows)

    def close(self) -> None:
        """Flushes what is open."""
        if self.chief:
            if self.bar is not None:
                self.bar.close()
            self._writer.close()


def read_rows(path: str, by: str, below: float) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines whose number `by` is below a limit; warns of damaged lines."""
    rows = files.read_lines(path)
    sound = [row for row in rows if row and isinstance(row.get(by), (int, float))]
    if len(sound) < len(rows):
        warnings.warn(
            f"{path} is damaged in {len(rows) - len(sound)} of {len(rows)} lines, which are left "
            "out; the training itself does not go by them.",
            stacklevel=3,
        )
    return [row for row in sound if row[by] < below]


def _short(name: str, value: float) -> str:
    """`natural 98.7%` for accuracies, four significant digits for the rest."""
    if name.endswith("accuracy"):
        return f"{name.removesuffix('_accuracy').replace('val_', 'val ')} {100 * value:.2f}%"
    if name == "images_per_second":
        return f"{value:.0f} img/s"
    return f"{name} {value:.4g}"
