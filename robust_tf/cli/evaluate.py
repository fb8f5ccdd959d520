"""`bin/evaluate`: natural accuracy, robust accuracy under attacks, and the worst case over them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from robust_tf.cli import Parser, UserError, command, quiet_start, whole

EPILOG = """\
attacks, divided by semicolons; eps and step_size in pixel units of images in [0, 1]:
  FGSM(eps=8/255)                              one step
  PGD(eps=0.3, step_size=0.01, steps=40)       from a random start; restarts=1, keep='last'
  BIM(...), MIM(...)                           from the clean image, MIM with momentum
  CW(...)                                      PGD on the margin of the logits
  TRADESAttack(...)                            PGD on the KL divergence
  MultiTargeted(PGD(...))                      at every wrong class, worst case over all
  ProjectedGradient(Linf(0.3), Steepest(0.01), 40, Margin(), UniformStart())
  norm='L2' makes any preset an L2 attack.

examples:
  evaluate --run_dir=runs/adr_mnist
  evaluate --run_dir=runs/adr_mnist --max_examples=1000 --output=result.json \\
      --attacks="PGD(eps=0.3, step_size=0.01, steps=40); MultiTargeted(PGD(eps=0.3, \\
      step_size=0.01, steps=40))"
  evaluate --model=exported --dataset=cifar10 --attacks="PGD(eps=8/255, step_size=2/255, steps=20)"
"""


def parser() -> Parser:
    """The command line."""
    result = Parser(
        prog="evaluate",
        description="Natural accuracy of a trained model, its robust accuracy under each attack, "
        "and the per-example\nworst case over all of them.",
        epilog=EPILOG,
    )
    model = result.add_mutually_exclusive_group(required=True)
    model.add_argument("--run_dir", metavar="DIR", help="folder of a finished training run")
    model.add_argument("--model", metavar="PATH", help=".keras file, or folder of a SavedModel")
    result.add_argument(
        "--attacks", metavar="TEXT", help="what to run, see below; default: the run's own attacks"
    )
    result.add_argument("--dataset", metavar="NAME", help="default: the run's own")
    result.add_argument(
        "--data_dir", metavar="DIR", help="TensorFlow datasets; default: TFDS_DATA_DIR"
    )
    result.add_argument(
        "--split", choices=("test", "validation", "train"), default="test", help="default: test"
    )
    result.add_argument(
        "--max_examples", type=whole(1), metavar="N", help="only the first N; default: all"
    )
    result.add_argument(
        "--batch_size", type=whole(1), metavar="N", help="images at once; default: the run's or 500"
    )
    result.add_argument(
        "--seed", type=whole(0), metavar="N", help="of the attacks; default: the run's or 0"
    )
    result.add_argument(
        "--output", metavar="FILE", help="JSON: table, settings, and the verdict of each example"
    )
    return result


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    options = parser().parse_args(argv)
    # TensorFlow takes seconds to import: not before the arguments are known to be right.
    with quiet_start():
        from robust_tf import evaluation, files

    summary = _summary(options.run_dir)
    attacks, settings = _attacks(options.attacks, summary)
    if options.output:
        files.check_writable(options.output)
    model = _model(options)
    data, provenance = _data(options, summary)
    split = getattr(data, options.split)
    print(
        f"{options.run_dir or options.model} on {data.name}, {options.split} split, "
        f"{len(attacks)} attack{'s' * (len(attacks) != 1)}",
        file=sys.stderr,
    )
    result = evaluation.evaluate(
        model,
        split,
        attacks,
        batch_size=options.batch_size or settings.get("batch_size", 500),
        max_examples=options.max_examples,
        seed=settings.get("seed", 0) if options.seed is None else options.seed,
    )
    print(result.table())
    if options.output:
        source = {"run_dir" if options.run_dir else "model": options.run_dir or options.model}
        report = {**source, "data": provenance, "evaluation": result.to_json()}
        files.write_json(options.output, report)
        print(f"written to {options.output}", file=sys.stderr)
    return 0


def _summary(run_dir: str | None) -> dict[str, Any]:
    """The content of a run's summary.json; empty where there is none."""
    from robust_tf import files

    if run_dir is None:
        return {}
    if not files.is_folder(run_dir):
        raise UserError(f"there is no run folder {run_dir}.")
    path = os.path.join(run_dir, "summary.json")
    if not files.exists(path):
        return {}
    summary = files.read_json(path)
    if not isinstance(summary, dict):
        raise UserError(f"{path} is not a run's summary.")
    return summary


def _attacks(text: str | None, summary: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attacks, and the settings that belong to them: those of the run if they are its own."""
    from robust_tf import evaluation

    if text is not None:
        return evaluation.parse_attacks(text), {}
    if not summary.get("evaluation"):
        raise UserError(
            'no attacks: give --attacks="PGD(eps=8/255, step_size=2/255, steps=20)", or the '
            "--run_dir of a finished run, whose own attacks are the default."
        )
    return evaluation.attacks_from_json(summary["evaluation"]), summary["evaluation"]


def _model(options: argparse.Namespace) -> Callable[..., Any]:
    from robust_tf.evaluation import loading

    if options.run_dir:
        return loading.load_run(options.run_dir)
    return loading.load_model(options.model)


def _data(options: argparse.Namespace, summary: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The dataset, and what to say about it in the report."""
    from robust_tf import data

    own = summary.get("data", {})
    name = options.dataset or own.get("name")
    if not name:
        raise UserError(f"no dataset: give --dataset, one of {', '.join(data.NAMES)}.")
    arguments = {}
    if name == own.get("name"):  # the run's own validation examples, not some of its training ones
        arguments = {key: own[key] for key in ("validation_size", "seed") if key in own}
        if "validation" in own:
            arguments.setdefault("validation_size", own["validation"])
    loaded = data.load(name, data_dir=options.data_dir, **arguments)
    fingerprint = loaded.fingerprint()
    if name == own.get("name") and own.get("fingerprint", fingerprint) != fingerprint:
        print(
            f"warning: this copy of {name} is not the one that the run saw "
            f"(fingerprint {fingerprint}, the run's {own['fingerprint']}).",
            file=sys.stderr,
        )
    provenance = {"name": name, "split": options.split, **arguments, "fingerprint": fingerprint}
    return loaded, provenance


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
