"""`--devices`, `--engine` and `--address`: how many processes share the work of a command."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING, Any

from robust_tf.cli import UserError

if TYPE_CHECKING:
    from robust_tf.engines import Engine


def add_options(group: Any, what: str) -> None:
    """The three options; `what` says what is done at the same time: 'so many shards at once'."""
    group.add_argument(
        "--devices",
        metavar="N",
        help=f"{what}, a number, or all: as many as there are GPUs, each process sees one; "
        "without a GPU as many as there are cores, each process has one thread (fewer take less "
        "memory)",
    )
    group.add_argument(
        "--engine",
        choices=("processes", "ray"),
        help="processes (default), of this machine; ray: tasks of a Ray cluster, which does those "
        "of a lost worker again (pip install 'robust_tf[ray]')",
    )
    group.add_argument(
        "--address",
        metavar="A",
        help="of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; default: RAY_ADDRESS, else one "
        "is started on this machine",
    )


def check(options: argparse.Namespace, without: tuple[str, ...]) -> None:
    """Raises UserError for a number that is none, and for options of `without` beside them."""
    from robust_tf.engines.devices import checked

    if options.devices is not None:
        try:
            checked(options.devices)
        except ValueError:
            raise UserError(
                f"--devices={options.devices}: must be all, or a whole number >= 1."
            ) from None
    if options.address is not None and options.engine != "ray":
        raise UserError(f"--address={options.address} is of a Ray cluster: give --engine=ray, too.")
    asked = next((n for n in ("devices", "engine") if getattr(options, n) is not None), None)
    other = next((name for name in without if getattr(options, name)), None)
    if asked and other:
        raise UserError(f"--{asked} does not go with --{other}, which starts no processes.")


def engine(options: argparse.Namespace) -> Engine | None:
    """The engine that the options ask for; None: all is done in this process.

    With an engine, this process takes no GPU: it only looks on.

    Raises:
      ValueError, ImportError, OSError: see `engines.engine`.
    """
    if options.devices is None and options.engine is None:
        return None
    import tensorflow as tf

    from robust_tf import engines

    made = engines.engine(options.engine or "processes", options.devices or "all", options.address)
    if made.workers == 1 and options.engine != "ray":
        return None
    if tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # TensorFlow has started: called by a program
            tf.config.set_visible_devices([], "GPU")
    return made
