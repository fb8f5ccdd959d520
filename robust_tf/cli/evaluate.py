"""`bin/evaluate`: natural accuracy, robust accuracy under attacks, and the worst case over them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from robust_tf.cli import Parser, UserError, batteries, command, inference, quiet_start, whole

if TYPE_CHECKING:
    from robust_tf.runs import Run

EPILOG = """\
attacks, divided by semicolons; eps and step_size in pixel units of images in [0, 1]:
  FGSM(eps=8/255)                              one step
  PGD(eps=0.3, step_size=0.01, steps=40)       from a random start; restarts=1, keep='last'
  BIM(...), MIM(...)                           from the clean image, MIM with momentum
  CW(...)                                      PGD on the margin of the logits
  TRADESAttack(...)                            PGD on the KL divergence
  MultiTargeted(PGD(...), logits=True)         at every wrong class, worst case over all
  APGD(eps=0.3), APGDTargeted(eps=0.3)         AutoPGD; FAB(eps=0.3); AutoAttack(eps=0.3)
  Square(eps=0.3), RayS(eps=0.3)               black box: scores only, labels only
  Transfer(PGD(...), run='runs/at_mnist')      made on another model, judged on this one
  ProjectedGradient(Linf(0.3), Steepest(0.01), 40, Margin(), UniformStart())
  norm='L2' makes any of them but RayS an L2 attack; eps=[0.1, 0.2, 0.3] gives a curve.
  my_lab.MyAttack(eps=0.3)                     of a module that the run records, or of --import

batteries: smoke, adr, atld, st, autoattack, full, or a gin file with battery.attacks = [...].
adr and atld have one step size at every eps, as their papers: --step_size, else the run's own, else
2/255, and beyond 32/255 0.01. The others, without --step_size, eps / 4; at a run's own eps its own.

examples:
  bin/evaluate --run_dir=runs/adr_mnist
  bin/evaluate --run_dir=runs/atld_mnist --inference=imt+ --max_examples=500
  bin/evaluate --run_dir=runs/adr_mnist --battery=autoattack --output=a.json
  bin/evaluate --model=exported --dataset=cifar10 --battery=full --eps=8/255
  bin/evaluate --run_dir=runs/atld_mnist --attacks="FGSM(0.3)" --transfer_from=runs/at_mnist
  bin/evaluate --model=my_package.models:resnet --dataset=cifar10 --attacks="FGSM(eps=8/255)"
  bin/evaluate ... --shard=1/2 --output=1.json, elsewhere --shard=2/2 --output=2.json, then
  bin/evaluate --merge 1.json 2.json --output=all.json
An evaluation with --output that was interrupted continues when the same command is given again.
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
    model.add_argument(
        "--model",
        metavar="PATH",
        help=".keras file, folder of a SavedModel, or package.module:name",
    )
    model.add_argument(
        "--merge", metavar="FILE", nargs="+", help="results of all shards; writes --output"
    )
    what = result.add_mutually_exclusive_group()
    what.add_argument(
        "--attacks", metavar="TEXT", help="what to run, see below; default: the run's own attacks"
    )
    what.add_argument("--battery", metavar="NAME", help="a set of attacks, see below")
    result.add_argument(
        "--eps",
        metavar="LIST",
        help="of the battery, e.g. 8/255 or 0.1,0.2,0.3; default: the run's",
    )
    result.add_argument(
        "--step_size",
        metavar="S",
        help="of the battery's gradient attacks, at every eps, e.g. 2/255",
    )
    result.add_argument(
        "--transfer_from",
        metavar="PATHS",
        help="run folders or .keras files, divided by commas: the attacks are made on these models "
        "and judged on this one (black box); a battery adds those that its paper transfers "
        "(atld: FGSM, PGD-20, CW-20)",
    )
    result.add_argument(
        "--dataset",
        metavar="NAME",
        help="of a dataset, or a folder of pictures, one folder for each class; default: the run's "
        "own",
    )
    result.add_argument(
        "--data_dir", metavar="DIR", help="TensorFlow datasets; default: TFDS_DATA_DIR"
    )
    result.add_argument(
        "--split", choices=("test", "validation", "train"), default="test", help="default: test"
    )
    result.add_argument(
        "--max_examples",
        type=whole(1),
        metavar="N",
        help="only N, drawn by class, or with a battery the first; default: all",
    )
    result.add_argument(
        "--draw",
        choices=("balanced", "first"),
        help="which N: drawn so that each class has its share, the same for every run; or the "
        "first, as in published tables (default with a battery)",
    )
    result.add_argument("--shard", metavar="I/N", help="only the I-th of N parts; see --merge")
    result.add_argument(
        "--batch_size", type=whole(1), metavar="N", help="images at once; default: the run's or 500"
    )
    result.add_argument(
        "--seed", type=whole(0), metavar="N", help="of the attacks; default: the run's or 0"
    )
    result.add_argument(
        "--search_dtype",
        choices=("auto", "float32", "bfloat16"),
        help="precision of the attacks, verdicts are in float32; auto: float32, or bfloat16 where "
        "this processor is faster in it; default: the model's own for both",
    )
    result.add_argument(
        "--eight_bits", action="store_true", help="also judge the images rounded to 8 bits"
    )
    result.add_argument(
        "--no_checks", action="store_true", help="do not look for signs of masked gradients"
    )
    result.add_argument(
        "--save_adversarial", metavar="DIR", help="keep the adversarial images (npz, lossless)"
    )
    result.add_argument(
        "--output", metavar="FILE", help="JSON: table, settings, and the verdict of each example"
    )
    inference.add_options(result)
    return result


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    options = parser().parse_args(argv)
    inference.check_options(options)
    # TensorFlow takes seconds to import: not before the arguments are known to be right.
    with quiet_start():
        from robust_tf import evaluation, files, modules, runs

    if options.output:
        files.check_replaceable(options.output, "a result of evaluate", _is_result)
    if options.save_adversarial:
        _check_images(options.save_adversarial)
    if options.merge:
        return _merge(options)
    named = [modules.load(name) for name in options.imports]
    run = runs.read_run(options.run_dir) if options.run_dir else None
    if run is not None and not options.battery:
        run.import_modules()  # whose attacks may be named
    attacks, settings = _attacks(options, run)
    protocol = _protocol(options, settings)
    partial = f"{options.output}.partial" if options.output else None
    source: dict[str, Any] = {"model": options.model}
    if run is not None:
        source = {"run_dir": options.run_dir}
    own = {one["name"] for one in modules.entries(run.record["modules"])} if run else set()
    recorded = modules.record_of({*named, *evaluation.modules_of(attacks.values())} - own)
    source |= {"modules": recorded} if recorded else {}
    state = evaluation.EvaluationState(
        partial, options.save_adversarial, options.run_dir or options.model
    )
    if options.inference and run is not None:
        model, attacks, source["inference"] = inference.defended(options, attacks, run)
    else:
        model = _model(options, run)
    data, provenance = _data(options, run, model)
    split = getattr(data, options.split)
    print(
        f"{options.run_dir or options.model} on {data.name}, {options.split} split, "
        f"{len(attacks)} attack{'s' * (len(attacks) != 1)}",
        file=sys.stderr,
    )
    try:
        result = evaluation.evaluate(model, split, attacks, state=state, **protocol)
    except KeyboardInterrupt:
        if partial:
            print(f"\nkept in {partial}; the same command continues.", file=sys.stderr)
        raise
    if options.search_dtype == "auto":
        print(f"attacks computed in {result.settings['search_dtype']}", file=sys.stderr)
    print(result.table())
    report = {**source, "data": provenance, "evaluation": result.to_json()}
    _columns(report, result)
    if options.output:
        files.write_json(options.output, report)
        print(f"written to {options.output}", file=sys.stderr)
    state.close()
    return 0


def _merge(options: argparse.Namespace) -> int:
    """Puts the results of shards together."""
    from robust_tf import evaluation, files

    reports = [files.read_json(path) for path in options.merge]
    for path, report in zip(options.merge, reports, strict=True):
        if not isinstance(report, dict) or "evaluation" not in report:
            raise UserError(f"{path} is not a result of evaluate.")
        for what, where in (("data", "of other data"), ("inference", "of another inference")):
            if report.get(what) != reports[0].get(what):
                raise UserError(f"{path} is {where} than {options.merge[0]}.")
    parts = [evaluation.Evaluation.from_json(report["evaluation"]) for report in reports]
    result = evaluation.merge(parts)
    print(result.table())
    whole_report = {**reports[0], "evaluation": result.to_json()}
    _columns(whole_report, result)
    if options.output:
        files.write_json(options.output, whole_report)
        print(f"written to {options.output}", file=sys.stderr)
    return 0


def _is_result(path: str) -> bool:
    """Whether a file is what this command writes, of this version or 0.1, by its content."""
    from robust_tf import files

    try:
        content = files.read_json(path)
    except files.FileError:
        return False
    known = {"run_dir", "model", "modules", "inference", "data", "evaluation", "columns"}
    needed = {"data", "evaluation", "model" if "model" in content else "run_dir"}
    return isinstance(content, dict) and needed <= set(content) <= known


def _check_images(folder: str) -> None:
    """Raises UserError for a folder that holds anything but adversarial images of this command."""
    import tensorflow as tf

    from robust_tf import files

    if not files.exists(folder):
        return
    names = sorted(tf.io.gfile.listdir(folder)) if files.is_folder(folder) else [""]
    for name in names:
        path = os.path.join(folder, name.rstrip("/"))
        inside = tf.io.gfile.listdir(path) if files.is_folder(path) else [""]
        if not all(entry.endswith(".npz") for entry in inside):
            raise UserError(
                f"{path.rstrip('/')} is there and holds no adversarial images of evaluate; give "
                "--save_adversarial a new or empty folder."
            )


def _columns(report: dict[str, Any], result: Any) -> None:
    """Of a defence at inference, its columns: printed, and added to the report."""
    from robust_tf import evaluation

    if "inference" in report:
        report["columns"] = evaluation.adaptive_summary(result)
        print(f"\n{evaluation.adaptive_table(result)}")


def _protocol(options: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given, or belong to the run's own attacks."""
    from robust_tf.evaluation.state import parse_shard

    given: dict[str, Any] = {
        "batch_size": options.batch_size or settings.get("batch_size", 500),
        "seed": settings.get("seed", 0) if options.seed is None else options.seed,
        "max_examples": options.max_examples,
        "draw": options.draw or ("first" if options.battery else "balanced"),
        "eight_bits": options.eight_bits,
        "search_dtype": options.search_dtype,
        "checks": not options.no_checks,
    }
    if options.shard:
        given["shard"] = parse_shard(options.shard)
    return given


def _attacks(options: argparse.Namespace, run: Run | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attacks, and the settings that belong to them: those of the run if they are its own."""
    from robust_tf import evaluation
    from robust_tf.evaluation.sources import load_sources, transferred

    for name, example in (("eps", "eps=0.3"), ("step_size", "step_size=0.01")):
        if getattr(options, name) is not None and not options.battery:
            raise UserError(
                f"--{name} is for a battery; attacks name their own: PGD({example}, ...)."
            )
    paths = [path.strip() for path in (options.transfer_from or "").split(",") if path.strip()]
    if options.transfer_from is not None and not paths:
        raise UserError("--transfer_from names no model; give folders of runs or .keras files.")
    if options.battery:
        given = options.battery, options.eps, run, options.step_size, load_sources(paths)
        return batteries.chosen(*given), {}
    attacks, settings = _own_attacks(options, run)
    if paths:
        moved = transferred(attacks.values(), load_sources(paths))
        attacks = evaluation.named(moved)
    return attacks, settings


def _own_attacks(
    options: argparse.Namespace, run: Run | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `_attacks`, those of --attacks or of the run."""
    from robust_tf import evaluation

    if options.attacks is not None:
        return evaluation.parse_attacks(options.attacks), {}
    own = {} if run is None else run.summary.get("evaluation") or {}
    if run is None or not (own or run.attacks):
        what = "or the --run_dir of a finished run, whose own are the default"
        what = what if run is None else f"{run.path} names none of its own"
        raise UserError(
            'no attacks: give --attacks="PGD(eps=8/255, step_size=2/255, steps=20)", or '
            f"--battery=autoattack; {what}."
        )
    return run.attacks, own


def _model(options: argparse.Namespace, run: Run | None) -> Callable[..., Any]:
    from robust_tf.evaluation import loading

    return loading.load_model(options.model) if run is None else run.model


def _data(options: argparse.Namespace, run: Run | None, model: Any) -> tuple[Any, dict[str, Any]]:
    """The dataset, and what to say about it in the report."""
    from robust_tf import data

    own: dict[str, Any] = {} if run is None else run.data
    name = options.dataset or own.get("name")
    if not name:
        raise UserError(
            f"no dataset: give --dataset, one of {', '.join(data.NAMES)}, or a folder of pictures."
        )
    provenance: dict[str, Any] = {"name": name, "split": options.split}
    if name == own.get("name"):  # the run's own validation examples, not some of its training ones
        loaded = data.load_recorded(own, options.data_dir)
        size = own.get("validation_size", own.get("validation"))
        provenance |= {} if size is None else {"validation_size": size}
        provenance |= {"seed": own["seed"]} if "seed" in own else {}
    else:
        loaded = data.open_dataset(name, {**_images_of(model), **own}, options.data_dir)
        if loaded.name != name:
            provenance |= {"name": loaded.name, "dataset": name}
    split = getattr(loaded, options.split)
    seen = (own.get("splits") or {}).get(options.split, split.fingerprint)
    if name == own.get("name") and seen != split.fingerprint:
        print(
            f"warning: these {options.split} images of {name} are not those that the run saw "
            f"(fingerprint {split.fingerprint}, the run's {seen}).",
            file=sys.stderr,
        )
    names = loaded.class_names or own.get("class_names")
    provenance |= {"class_names": list(names)} if names else {}
    provenance["fingerprint"] = loaded.fingerprint()
    provenance["splits"] = {options.split: split.fingerprint}
    return loaded, provenance


def _images_of(model: Any) -> dict[str, Any]:
    """Of the images that a model takes size, channels and more, where it tells them."""
    from robust_tf.evaluation.defended import image_shape_of

    told = dict(getattr(model, "pictures", {}))
    shape = image_shape_of(model)
    if shape is None or len(shape) != 3 or None in shape:
        return told
    return {**told, "image_size": list(shape[:2]), "channels": shape[2]}


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
