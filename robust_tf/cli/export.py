"""`bin/export`: a trained model as files for those who do not have this library."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from robust_tf.cli import Parser, UserError, command, inference, quiet_start, subject, whole

if TYPE_CHECKING:
    from robust_tf.runs import Run

EPILOG = """\
formats, divided by commas:
  saved_model     for plain TensorFlow and TensorFlow Serving: prediction, features, detection,
                  input gradients and an attack, and the transformed inference of --inference
  keras           weights and architecture; loads in safe mode beside this library
  tflite_float16, tflite_int8   the prediction, quantised; measured clean and under the run's attack
  onnx            the prediction in float32

The folder also gets a model card (README.md, model_card.json), and with saved_model the requests
and responses of TensorFlow Serving (rest/). All files are loaded in a new process and compared with
the model before the folder appears.

examples:
  bin/export --run_dir=runs/adr_mnist --export_dir=exported
  bin/export --run_dir=runs/adr_mnist --export_dir=exported --formats=saved_model,tflite_int8
  bin/export --run_dir=runs/atld_mnist --export_dir=exported --inference=imt+
  bin/export --model=converted.keras --export_dir=exported --formats=saved_model,keras
"""


def parser() -> Parser:
    """The command line."""
    result = Parser(
        prog="export",
        description="Writes the model of a training run, or of a model file, as files that load "
        "without this library.",
        epilog=EPILOG,
    )
    subject.add_model(result.add_mutually_exclusive_group(required=True))
    result.add_argument(
        "--export_dir", metavar="DIR", required=True, help="new or empty folder to write to"
    )
    result.add_argument(
        "--formats", metavar="LIST", default="saved_model", help="default: saved_model"
    )
    subject.add_data(result, "that TFLite and ONNX files are measured on; default: the run's own")
    result.add_argument(
        "--max_examples",
        type=whole(1),
        metavar="N",
        default=500,
        help="test images that TFLite and ONNX files are measured on; default: 500",
    )
    result.add_argument("--overwrite", action="store_true", help="replace an export that is there")
    subject.add_checkpoint(result)
    inference.add_options(result, adaptive=False)
    return result


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    options = parser().parse_args(argv)
    inference.check_options(options)
    # TensorFlow takes seconds to import: not before the arguments are known to be right.
    with quiet_start():
        from robust_tf import export, modules
        from robust_tf.export import conversion, provenance

    formats = conversion.check(options.formats.split(","), bool(options.inference))
    export.check_free(options.export_dir, options.overwrite)
    for name in options.imports:
        modules.load(name)
    exported = subject.Subject(options)
    run, model = exported.run, exported.model
    about = {} if run is None else provenance.of_run(run, _fingerprint(model))
    detector = None
    if options.inference:
        model = inference.transformation(options, run, model)
    elif run is not None:
        detector = _detector(run)
    calibration = (
        _calibration(exported, options.dataset, options.max_examples, about)
        if set(formats) & set(conversion.CONVERTED)
        else None
    )
    try:
        with quiet_start():  # converters, too, write of their work
            card = export.export(
                model,
                options.export_dir,
                options.overwrite,
                formats=formats,
                detector=detector,
                calibration=calibration,
                about=about,
                smoke=True,
            )
    except TypeError as error:  # a model.keras of somebody else's making
        raise ValueError(str(error)) from error
    except export.SmokeTestError as error:
        raise UserError(f"nothing was written: {error}") from error
    _report(card)
    shape = card["input"]["shape"]
    print(f"wrote {options.export_dir}: images float32 {shape} -> ", end="")
    print(f"logits, probabilities, class{', label' if card['model']['class_names'] else ''}")
    if "saved_model" in formats:
        print(f"  model = tf.saved_model.load({options.export_dir!r})")
        print("  model.signatures['serving_default'](images=tf.zeros([1, ", end="")
        print(f"{', '.join(map(str, shape))}]))['probabilities']")
    return 0


def _calibration(
    exported: subject.Subject, dataset: str | None, examples: int, about: dict[str, Any]
) -> Any:
    """What TFLite and ONNX files are measured on: the data, and the first attack of the run."""
    from robust_tf.evaluation import name_of
    from robust_tf.export import CalibrationData

    if exported.run is not None and not dataset and not exported.run.data.get("name"):
        raise UserError(
            f"{exported.path} does not say which data it was trained on (summary.json), and "
            "TFLite and ONNX files are measured on them: give --dataset, or choose "
            "--formats=saved_model,keras."
        )
    loaded, _ = exported.data("test")
    attack = None if exported.run is None else next(iter(exported.run.attacks.values()), None)
    title = "" if attack is None else name_of(attack)
    if attack is None and about:
        about["missing"].append("the run names no attack: robust accuracies were not measured.")
    return CalibrationData(loaded.train, loaded.test.take(examples), attack, title)


def _report(card: dict[str, Any]) -> None:
    """Sizes, accuracies and the smoke test, on stderr."""
    for entry in card["files"]:
        line = f"{entry['format']:15} {entry['bytes'] / 1000:9,.0f} kB"
        for kind in ("natural", "robust"):
            if kind in entry:
                line += f"   {kind} {100 * entry[kind]:.2f} %"
        print(line, file=sys.stderr)
    measured, tested = card["measured"], card["smoke_test"]
    if measured and measured["attack"]:
        print(
            f"robust: {measured['attack']} found on the model itself and shown to the files, "
            f"{measured['test_images']} test images",
            file=sys.stderr,
        )
    seconds = ", ".join(f"{k} {v:.2f} s" for k, v in tested["load_seconds"].items())
    print(
        f"smoke test in a new process: {tested['same_bits']} of {tested['compared']} outputs have "
        f"the bits of the model; loaded: {seconds}",
        file=sys.stderr,
    )
    for line in (card["training"] or {}).get("missing", []):
        print(f"model card: {line}", file=sys.stderr)


def _fingerprint(model: Any) -> str | None:
    """Of the weights, as results of the run tell theirs."""
    import keras

    from robust_tf.evaluation.target_model import fingerprint_of

    return fingerprint_of(model, None) if isinstance(model, keras.Model) else None


def _detector(run: Run) -> Any:
    """The network behind the discriminator that the run has left, None if it has left none."""
    from robust_tf import runs

    return runs.load_inference(run) if "discriminator.keras" in run.entries else None


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
