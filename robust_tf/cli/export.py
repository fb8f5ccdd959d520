"""`bin/export`: a trained model as a SavedModel for TensorFlow alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from robust_tf.cli import Parser, command, quiet_start

EPILOG = """\
The SavedModel takes images, float32 (batch, height, width, channels) in [0, 1], and has two
signatures: serving_default gives logits and probabilities, features the intermediate layer.

example:
  export --run_dir=runs/adr_mnist --export_dir=exported
"""


def parser() -> Parser:
    """The command line."""
    result = Parser(
        prog="export",
        description="Writes the model of a training run as a SavedModel that TensorFlow loads\n"
        "without this library.",
        epilog=EPILOG,
    )
    result.add_argument(
        "--run_dir", metavar="DIR", required=True, help="folder of a finished training run"
    )
    result.add_argument(
        "--export_dir", metavar="DIR", required=True, help="new or empty folder to write to"
    )
    result.add_argument(
        "--overwrite", action="store_true", help="replace a SavedModel that is there"
    )
    return result


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    options = parser().parse_args(argv)
    # TensorFlow takes seconds to import: not before the arguments are known to be right.
    with quiet_start():
        from robust_tf import export
        from robust_tf.evaluation import loading

    export.check_free(options.export_dir, options.overwrite)
    model: Any = loading.load_run(options.run_dir)
    try:
        export.export(model, options.export_dir, options.overwrite)
    except TypeError as error:  # a model.keras of somebody else's making
        raise ValueError(str(error)) from error
    shape = getattr(model, "network", model).image_shape
    print(f"wrote {options.export_dir}: images float32 {list(shape)} -> ", end="")
    print("logits, probabilities (serving_default); features (features)")
    print(f"  model = tf.saved_model.load({options.export_dir!r})")
    print("  model.signatures['serving_default'](images=tf.zeros([1, ", end="")
    print(f"{', '.join(map(str, shape))}]))['probabilities']")
    return 0


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
