"""`bin/figures`: the papers' figures, of trained runs."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence

from robust_tf.cli import Parser, UserError, command, inference, quiet_start, whole

# What each kind shows; `figure_kinds.MAKERS` says how.
KINDS = {
    "curves": "robust accuracy against eps: of evaluations, or with --eps=0.1,0.2 attacked here",
    "steps": "robust accuracy against the number of steps of PGD, --steps=0,1,2,5,10,20,40",
    "surface": "loss and predictions around an image, and how rough they are",
    "latent": "t-SNE of features of clean and adversarial images; --entropy as third axis",
    "plane": "decision boundaries and moved points of runs on points, such as moons",
    "moons": "the toy of four methods on two moons; needs no run",
    "profile": "loss along collaborative and adversarial steps",
    "training": "training curves of metrics.jsonl",
    "grid": "clean images, perturbations, adversarial images",
    "bars": "accuracies with 95 % intervals, of the evaluations in the run folders",
    "projector": "features for TensorBoard's projector; --output is a new folder",
}
# The kinds in which a run can stand a second time, behind its manifold transformation.
DEFENDED = ("curves", "steps", "bars")
EPILOG = """\
kinds:
{kinds}
and those of your own, see robust_tf.figures.kind, in a module that the runs record or of --import.

The ending of --output, .svg, .pdf or .png, says in which format. A figure that this command has
written is replaced, any other file only with --overwrite. Evaluations are the JSON files in a run
folder that `bin/evaluate --output=RUN/NAME.json` writes; of the run's network alone and its own
test images, unless one is named by --evaluation. eps is by default the run's own. With --inference
curves, steps and bars show each run that has a discriminator a second time, behind the manifold
transformation; what is attacked here is attacked through it, its gradient taken for the identity.
curves and steps show it a third time, under oblivious attacks: made on the network alone.

examples:
  bin/figures moons --output=moons.pdf
  bin/figures training --run_dir=runs/adv_mnist --run_dir=runs/adr_mnist --output=training.svg
  bin/figures curves --run_dir=runs/adv_mnist --eps=0.1,0.2,0.3 --examples=500 --output=curves.pdf
  bin/figures surface --run_dir=runs/adv_mnist --run_dir=runs/adr_mnist --around=fooling --own \\
    --output=surface.png
"""


def parser() -> Parser:
    """The command line."""
    result = Parser(
        prog="figures",
        description="Draws a figure of one run or several.",
        epilog=EPILOG.format(kinds="\n".join(f"  {k:10} {v}" for k, v in KINDS.items())),
    )
    result.add_argument("kind", metavar="KIND", help="what to draw, see below")
    result.add_argument(
        "--run_dir", metavar="DIR", action="append", default=[], help="of a run; may be repeated"
    )
    result.add_argument("--output", metavar="FILE", required=True, help="where to write it")
    result.add_argument(
        "--overwrite", action="store_true", help="replace a file that is no figure of this command"
    )
    result.add_argument("--title", default="", help="above the figure")
    result.add_argument("--dpi", type=whole(30), default=200, metavar="N", help="of a .png")
    data = result.add_argument_group("data")
    data.add_argument("--dataset", metavar="NAME", help="default: the runs' own")
    data.add_argument(
        "--data_dir", metavar="DIR", help="TensorFlow datasets; default: TFDS_DATA_DIR"
    )
    data.add_argument(
        "--examples", type=whole(1), metavar="N", help="test images, the first N; default: by kind"
    )
    attack = result.add_argument_group("attack")
    attack.add_argument(
        "--eps", metavar="LIST", help="radius, e.g. 0.3 or 8/255; of curves several"
    )
    attack.add_argument(
        "--steps", metavar="LIST", help="of PGD, default 40, of eps / 10 each; of steps several"
    )
    attack.add_argument("--seed", type=whole(0), default=0, metavar="N", help="default: 0")
    kinds = result.add_argument_group("single kinds")
    kinds.add_argument("--evaluation", metavar="NAME", help="curves, bars: only the file NAME.json")
    kinds.add_argument(
        "--measures",
        metavar="LIST",
        help="bars: which, divided by semicolons; default: shared by all",
    )
    kinds.add_argument(
        "--bottom", type=float, metavar="A", help="bars, curves: lowest accuracy shown, in [0, 1)"
    )
    kinds.add_argument(
        "--around",
        choices=("clean", "fooling", "failing"),
        default="clean",
        help="surface, grid: the first images; or those whose adversarial image fools the first "
        "model, or fails, the surface then being that around the adversarial image",
    )
    kinds.add_argument(
        "--own",
        action="store_true",
        help="surface, with --around=fooling or failing: around each model's own adversarial image "
        "in place of the first model's, where those of all models fool, or fail",
    )
    kinds.add_argument(
        "--space", choices=("images", "features"), default="images", help="surface: default images"
    )
    kinds.add_argument(
        "--no_clip",
        action="store_true",
        help="surface: also beyond [0, 1], as the released program; clipping bends the plane",
    )
    kinds.add_argument(
        "--index", type=whole(0), default=0, metavar="N", help="surface: which of them is drawn"
    )
    kinds.add_argument("--entropy", action="store_true", help="latent: as third axis")
    inference.add_options(result, adaptive=False, models=False)
    return result


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    options = parser().parse_args(argv)
    if options.kind in KINDS or not (options.run_dir or options.imports):
        _check(options, KINDS)
    # TensorFlow takes seconds to import: not before the arguments are known to be right.
    with quiet_start():
        from robust_tf import modules, runs
        from robust_tf.cli import figure_inputs, figure_kinds
        from robust_tf.figures import kinds, output, style

    for name in options.imports:
        modules.load(name)
    own = None
    if options.kind not in KINDS:
        for path in options.run_dir:
            runs.read_run(path).import_modules()
        _check(options, [*KINDS, *kinds.REGISTERED])
        own = kinds.REGISTERED[options.kind]
    if options.kind == "projector":
        print(figure_kinds.projector(options))
        return 0
    replaces = output.check_free(options.output, options.overwrite)
    style.matplotlib()
    if own is None:
        figure, numbers = figure_kinds.MAKERS[options.kind](options)
    else:
        made = own.draw(figure_inputs.Inputs(options))
        figure, numbers = made if isinstance(made, tuple) else (made, "")
        if not hasattr(figure, "savefig"):
            raise UserError(
                f"{options.kind} returned {type(figure).__name__}: must be a "
                "matplotlib.figure.Figure, or that and a text."
            )
    output.save(figure, options.output, options.dpi)
    if numbers:
        print(numbers)
    print(f"{'replaced' if replaces else 'written to'} {options.output}", file=sys.stderr)
    return 0


def _check(options: argparse.Namespace, known: Iterable[str]) -> None:
    """Raises UserError for a kind that is not there, and for one that lacks its runs."""
    known = list(known)
    if options.kind not in known:
        near = difflib.get_close_matches(options.kind, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}."
        raise UserError(
            f"there is no figure {options.kind!r}; {hint} One of your own takes --import=MODULE, "
            "or the --run_dir of a run that records its module."
        )
    if options.kind in KINDS and options.kind != "moons" and not options.run_dir:
        raise UserError(f"{options.kind} is drawn of runs: give --run_dir, once or several times.")
    if options.kind == "projector" and options.overwrite:
        raise UserError("the projector takes a new folder: --overwrite does not go with it.")
    inference.check_options(options)
    if options.inference and options.kind not in DEFENDED:
        raise UserError(f"--inference goes with {', '.join(DEFENDED)}, not with {options.kind}.")
    if options.inference and options.evaluation:
        raise UserError("--evaluation names one file, --inference chooses among them: give one.")
    if options.own and (options.kind != "surface" or options.around == "clean"):
        raise UserError("--own goes with surface and --around=fooling or --around=failing.")
    if options.bottom is not None and not 0 <= options.bottom < 1:
        raise UserError(f"--bottom={options.bottom}: must be in [0, 1).")


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
