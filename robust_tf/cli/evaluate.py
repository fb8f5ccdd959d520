"""`bin/evaluate`: natural accuracy, robust accuracy under attacks, and the worst case over them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from robust_tf import stopping
from robust_tf.cli import (
    Parser,
    chosen_attacks,
    command,
    engine_options,
    evaluate_devices,
    inference,
    quiet_start,
    subject,
    whole,
)

EPILOG = """\
attacks, divided by semicolons; eps and step_size in pixel units of images in [0, 1]:
  FGSM(eps=8/255), FGSMRS(eps=8/255)           one step, from the image or from a random start
  PGD(eps=0.3, step_size=0.01, steps=40)       from a random start; restarts=1, keep='last'
  BIM(...), MIM(...)                           from the clean image, MIM with momentum
  CW(...)                                      PGD on the margin of the logits
  TRADESAttack(...)                            PGD on the KL divergence
  MultiTargeted(PGD(...), logits=True)         at every wrong class, worst case over all
  APGD(eps=0.3), APGDTargeted(eps=0.3)         AutoPGD; FAB(eps=0.3); AutoAttack(eps=0.3)
  QuickEstimate(eps=0.3)                       an estimate of AutoAttack's verdict, much faster; of
                                               its parts CheckedTargets(...),
                                               RankedTargets(...), RacedSquare(...)
  Square(eps=0.3), RayS(eps=0.3)               black box: scores only, labels only
  Union([PGD(...), PGD(..., norm='L2')])       worst case over several balls; Linf(0.3) in place of
                                               an attack is AutoAttack in it; MSD([BIM(...), ...])
  FMN(norm='L2'), DDN(), FAB(), RayS()         without eps: how far the nearest adversarial image of
                                               each image is, and the accuracy at every eps
  Transfer(PGD(...), run='runs/at_mnist')      made on another model, judged on this one
  ProjectedGradient(Linf(0.3), Steepest(0.01), 40, Margin(), UniformStart())
  norm='L2' makes any of them but RayS an L2 attack, norm='L1' one in L1, where eps is a sum over
  pixels and channels: 12 for CIFAR-10, 10 for MNIST; eps=[0.1, 0.2, 0.3] gives a curve.
  my_lab.MyAttack(eps=0.3)                     of a module that the run records, or of --import

batteries: smoke, adr, atld, st, quick, autoattack, full, or a gin file with battery.attacks = [...]
quick is an estimate of autoattack, in L-inf by a sixth to a third of its passes, see docs/quick.md;
autoattack is what to quote.
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
  bin/evaluate --run_dir=runs/adr_mnist --battery=autoattack --devices=all --output=a.json
  bin/evaluate --status --output=a.json
An evaluation with --output that gets SIGTERM or SIGINT keeps what is done and ends, a second signal
ends it at once; the same command continues it.

exit status: 0 when all is done, 2 when something given was wrong, 3 when the process of a shard
failed or was killed (the others are done), 143 when stopped by SIGTERM, 130 by SIGINT; the same
command continues.
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
    subject.add_model(model)
    model.add_argument(
        "--merge", metavar="FILE", nargs="+", help="results of all shards; writes --output"
    )
    model.add_argument(
        "--status",
        action="store_true",
        help="how far the evaluation that writes --output is, and what is known so far",
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
    subject.add_data(result, "default: the run's own")
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
    result.add_argument("--settled_dtype", help=argparse.SUPPRESS)  # of a shard, what 'auto' is
    evaluate_devices.add_options(result)
    subject.add_checkpoint(result)
    inference.add_options(result)
    return result


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    options = parser().parse_args(argv)
    inference.check_options(options)
    evaluate_devices.check_options(options)
    if options.status:
        print(evaluate_devices.status(options.output))
        return 0
    with stopping.handled():
        return _main(options, sys.argv[1:] if argv is None else argv)


def _main(options: argparse.Namespace, argv: Sequence[str]) -> int:
    # TensorFlow takes seconds to import: not before the arguments are known to be right.
    with quiet_start():
        from robust_tf import evaluation, files, modules
        from robust_tf.cli import evaluate_file

        engine = engine_options.engine(options)

    if options.output:
        files.check_replaceable(options.output, "a result of evaluate", evaluate_file.is_result)
    if options.save_adversarial:
        evaluate_file.check_images(options.save_adversarial)
    if options.merge:
        evaluate_file.write(*evaluate_file.merged(options.merge), options.output)
        return 0
    if engine is not None:
        with engine:
            return evaluate_devices.run(options, engine, argv)
    named = [modules.load(name) for name in options.imports]
    judged = subject.Subject(options)
    run = judged.run
    if run is not None and not options.battery:
        run.import_modules()  # whose attacks may be named
    attacks, settings = chosen_attacks.chosen(options, run)
    protocol = _protocol(options, settings)
    partial = f"{options.output}.partial" if options.output else None
    evaluate_devices.check_single(options.output)
    state = evaluation.EvaluationState(partial, options.save_adversarial, judged.path)
    report = judged.record
    own = {one["name"] for one in modules.entries(run.record["modules"])} if run else set()
    recorded = modules.record_of({*named, *evaluation.modules_of(attacks.values())} - own)
    report |= {"modules": recorded} if recorded else {}
    model = judged.model
    if options.inference:
        model, attacks, report["inference"] = inference.defended(options, attacks, judged)
    data, report["data"] = judged.data(options.split)
    print(
        f"{judged.path} on {data.name}, {options.split} split, "
        f"{len(attacks)} attack{'s' * (len(attacks) != 1)}",
        file=sys.stderr,
    )
    split = getattr(data, options.split)

    def say_kept() -> None:
        if partial and files.exists(partial):
            text = f"\nkept in {partial}; the same command continues."
            print(text, file=sys.stderr, flush=True)

    try:
        with stopping.saving(say_kept):
            result = evaluation.evaluate(model, split, attacks, state=state, **protocol)
    except KeyboardInterrupt:
        say_kept()
        raise
    if options.search_dtype == "auto":
        print(f"attacks computed in {result.settings['search_dtype']}", file=sys.stderr)
    evaluate_file.write(result, report, options.output)
    state.close()
    return 0


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
    if options.search_dtype == "auto" and options.settled_dtype:
        given["search_dtype"] = f"auto:{options.settled_dtype}"
    if options.shard:
        given["shard"] = parse_shard(options.shard)
    return given


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
