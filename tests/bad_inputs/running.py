"""Runs bad command lines in this process, in the folder of `world`."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bad_inputs import judging, world

COMMANDS = ("train", "evaluate", "convert", "export", "figures", "report", "study")


class Place:
    """A folder with everything in it, the current one as long as the place is entered.

    Args:
      folder: empty.
    """

    def __init__(self, folder: Path):
        world.make(folder)
        self.folder, self.before = folder, judging.contents(folder)

    @contextlib.contextmanager
    def entered(self) -> Iterator[Place]:
        """Here, and without work that a bad input must not come to."""
        train = importlib.import_module("robust_tf.cli.train")
        studies = importlib.import_module("robust_tf.studies")
        kept, here = (train._train, studies.run), os.getcwd()

        def work(*args: object, **kwargs: object) -> object:
            raise AssertionError("it began to work")

        os.chdir(self.folder)
        train._train = studies.run = work
        try:
            yield self
        finally:
            train._train, studies.run = kept
            os.chdir(here)

    def fault(self, command: str, argv: Sequence[str], names: Sequence[str] = ()) -> str:
        """What is not clear in the answer of a command; '' if nothing is."""
        main = importlib.import_module(f"robust_tf.cli.{command}").main
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            with warnings.catch_warnings():
                try:
                    status = main(list(argv))
                except SystemExit as left:
                    status = left.code
                except BaseException as error:
                    status = error
        fault = judging.command(status, out.getvalue(), err.getvalue(), names)
        after = judging.contents(self.folder)
        changed = {k for k in {*after, *self.before} if after.get(k) != self.before.get(k)}
        if changed:
            self.before = after
            fault = f"{fault}; it changed {', '.join(sorted(changed))}".lstrip("; ")
        return fault
