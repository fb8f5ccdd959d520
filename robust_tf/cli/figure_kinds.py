"""How `bin/figures` makes each kind: from the options to a figure, and numbers to print beside."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from robust_tf.cli import UserError
from robust_tf.cli import figure_inputs as inputs
from robust_tf.cli.figure_inputs import Options
from robust_tf.figures import (
    bars,
    curves,
    grids,
    latent,
    loss_surface,
    moons,
    plane,
    profile,
    roughness,
    tensorboard,
    training,
)
from robust_tf.figures.forward import (
    adversarial_at,
    check_images,
    check_points,
    check_varies,
    logits_at,
)
from robust_tf.runs import Run, read_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Made = tuple["Figure", str]


def _curves(options: Options) -> Made:
    runs = inputs.runs_of(options)
    radii, norm = inputs.numbers(options.eps, "eps"), "Linf"
    if radii:
        x, y = inputs.examples(options, runs, 500)
        radii, count = sorted({0.0, *radii}), inputs.steps_of(options, 40)
        made = {
            name: curves.accuracy_against_eps(
                model, x, y, radii, count, seed=options.seed, source=source
            )
            for name, (model, source) in inputs.attacked(runs).items()
        }
    else:
        norm, made = inputs.best_curves(runs, options.evaluation)
    trained = next((eps for run in runs.values() for n, eps in run.balls if n == norm), None)
    label = "eps" if norm == "Linf" else f"eps, {norm}"
    figure = curves.draw_curves(made, label, options.title, trained, options.bottom)
    rows = {
        name: {f"eps {x:g}": f"{100 * a:.1f} %" for x, a in zip(c.x, c.accuracy, strict=True)}
        for name, c in made.items()
    }
    same = len({tuple(row) for row in rows.values()}) == 1
    return figure, inputs.table(rows) if same else ""


def _steps(options: Options) -> Made:
    runs = inputs.runs_of(options)
    eps, given = inputs.eps_of(options, runs), inputs.whole_numbers(options.steps, "steps")
    counts = sorted(set(given)) or [0, 1, 2, 5, 10, 20, 40]
    x, y = inputs.examples(options, runs, 500)
    made = {
        name: curves.accuracy_against_steps(
            model, x, y, eps, counts, seed=options.seed, source=source
        )
        for name, (model, source) in inputs.attacked(runs).items()
    }
    figure = curves.draw_curves(made, "steps", options.title, bottom=options.bottom)
    rows = {
        name: {f"{x:g} steps": f"{100 * a:.1f} %" for x, a in zip(c.x, c.accuracy, strict=True)}
        for name, c in made.items()
    }
    return figure, inputs.table(rows)


def _chosen(
    options: Options, model: Any, x: np.ndarray, y: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, their adversarial images and labels, of those that --around asks for."""
    x_adv, chosen = _attacked(options, model, x, y, eps)
    if not chosen.any():
        raise UserError(f"no {options.around} image among {len(y)}: raise --examples.")
    return x[chosen], x_adv[chosen], y[chosen]


def _attacked(
    options: Options, model: Any, x: np.ndarray, y: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """The adversarial images of a model, and which of them are as --around asks, bool (n,)."""
    x_adv = adversarial_at(model, x, y, eps, inputs.attack_of(options, eps), options.seed)
    if options.around == "clean":
        return x_adv, np.ones(len(y), bool)
    before, after = (logits_at(model, images).argmax(1) == y for images in (x, x_adv))
    return x_adv, before & (~after if options.around == "fooling" else after)


def _own_images(
    options: Options, runs: dict[str, Run], x: np.ndarray, y: np.ndarray, eps: float
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Each model's own adversarial images, of those that are as --around asks for all; labels."""
    made = {name: _attacked(options, run.model, x, y, eps) for name, run in runs.items()}
    chosen = np.logical_and.reduce([own for _, own in made.values()])
    if not chosen.any():
        raise UserError(
            f"no image among {len(y)} whose adversarial images are {options.around} for all of "
            f"{', '.join(runs)}: raise --examples, or leave out --own."
        )
    return {name: x_adv[chosen] for name, (x_adv, _) in made.items()}, y[chosen]


def _surface(options: Options) -> Made:
    runs = read_runs(options.run_dir)
    eps = inputs.eps_of(options, runs)
    x, y = inputs.examples(options, runs, 50)
    check_images(x, "a loss surface")
    middles = dict.fromkeys(runs, x)
    if options.own:
        middles, y = _own_images(options, runs, x, y, eps)
    elif options.around != "clean":
        _, x, y = _chosen(options, next(iter(runs.values())).model, x, y, eps)
        middles = dict.fromkeys(runs, x)
    if options.index >= len(y):
        raise UserError(f"--index={options.index}: there are {len(y)} such images.")
    made = {
        name: loss_surface.compute_surfaces(
            run.model,
            middles[name],
            y,
            eps,
            space=options.space,
            clip=not options.no_clip,
            seed=options.seed,
        )
        for name, run in runs.items()
    }
    for name, surfaces in made.items():
        check_varies(surfaces.losses[options.index].ravel(), f"losses of {name}")
    names = inputs.class_names(runs)
    figure = loss_surface.draw_surfaces(made, options.index, options.title, names)
    return figure, inputs.table(roughness.compared(made))


def _latents(
    options: Options, runs: dict[str, Run], default: int = 500
) -> dict[str, latent.Latent]:
    eps = inputs.eps_of(options, runs)
    x, y = inputs.examples(options, runs, default)
    attack = inputs.attack_of(options, eps)
    return {
        name: latent.compute_latent(
            run.model, x, y, adversarial_at(run.model, x, y, eps, attack, options.seed)
        )
        for name, run in runs.items()
    }


def _latent(options: Options) -> Made:
    runs = read_runs(options.run_dir)
    made = _latents(options, runs)
    maps = {name: latent.embed(one.features, seed=options.seed) for name, one in made.items()}
    names = inputs.class_names(runs)
    figure = latent.draw_latent(made, maps, options.entropy, options.title, names)
    return figure, inputs.table(
        {n: latent.measure_latent(one)._asdict() for n, one in made.items()}
    )


def projector(options: Options) -> str:
    """Writes the features of one run for TensorBoard; says how to look at them."""
    if len(options.run_dir) > 1:
        raise UserError("the projector shows one run: give --run_dir once.")
    tensorboard.check_new(options.output)
    runs = read_runs(options.run_dir)
    [(_, made)] = _latents(options, runs).items()
    check_varies(made.features, "features")
    x, _ = inputs.examples(options, runs, 500)
    tensorboard.write_projector(options.output, made, x, inputs.class_names(runs))
    return f"written to {options.output}; tensorboard --logdir={options.output}, tab Projector"


def _plane(options: Options) -> Made:
    runs = read_runs(options.run_dir)
    x, y = inputs.examples(options, runs, 300)
    check_points(x, "a plane")
    eps = inputs.eps_of(options, runs)
    box = plane.box_of(x, 1.3 * eps)
    rows = []
    for name, run in runs.items():
        regions = plane.compute_plane(run.model, box)
        attacked = adversarial_at(
            run.model, x, y, eps, inputs.attack_of(options, eps), options.seed
        )
        rows.append(
            [
                plane.Panel(name, regions, points=x, labels=y),
                plane.Panel("perturbations of PGD", regions, moved=plane.Moved(x, attacked, y)),
                plane.Panel("after PGD", regions, points=attacked, labels=y),
            ]
        )
    return plane.draw_planes(rows, title=options.title), ""


def _moons(options: Options) -> Made:
    given = inputs.numbers(options.eps, "eps", 1)
    made = moons.train_moons(
        given[0] if given else moons.EPS, show=options.examples or 300, seed=options.seed
    )
    rows = {
        name: {"natural": toy.natural_accuracy, "PGD-20": toy.robust_accuracy}
        for name, toy in made.toys.items()
    }
    return moons.draw_moons(made, title=options.title), inputs.table(rows)


def _profile(options: Options) -> Made:
    runs = read_runs(options.run_dir)
    eps, count = inputs.eps_of(options, runs), inputs.steps_of(options, 20)
    x, y = inputs.examples(options, runs, 500)
    made = {
        name: profile.loss_profile(run.model, x, y, eps, eps / 10, count)
        for name, run in runs.items()
    }
    rows: dict[str, dict[str, Any]] = {}
    for name, one in made.items():
        _, losses = profile.path_of(one)
        ends = {"collaborative": losses[0], "clean": losses[count], "adversarial": losses[-1]}
        rows[name] = {key: float(value) for key, value in ends.items()}
        low, high = losses[0], losses[-1]
        over = "> " * bool(low < profile.LEAST)  # the least is rounding
        rows[name]["rise"] = float(high - low)
        rows[name]["ratio"] = f"{over}{high / max(low, profile.LEAST):.3g}"
    return profile.draw_profiles(made, options.title), inputs.table(rows)


def _training(options: Options) -> Made:
    runs = read_runs(options.run_dir)
    made = {name: training.columns_of(run) for name, run in runs.items()}
    for run in runs.values():
        if run.metrics_fault:
            print(f"warning: {run.path}: {run.metrics_fault}", file=sys.stderr)
    return training.draw_training(made, options.title), ""


def _grid(options: Options) -> Made:
    runs = read_runs(options.run_dir)
    if len(runs) > 1:
        raise UserError("a grid shows one run: give --run_dir once.")
    eps, [run] = inputs.eps_of(options, runs), runs.values()
    x, y = inputs.examples(options, runs, 8)
    check_images(x, "an image grid")
    x, attacked, y = _chosen(options, run.model, x, y, eps)
    made = grids.compute_grid(run.model, x, y, attacked)
    return grids.draw_grid(made, options.title, class_names=run.class_names), ""


def _bars(options: Options) -> Made:
    made = bars.merged_bars(
        {
            name: list(inputs.evaluations(run, options.evaluation).values())
            for name, run in inputs.runs_of(options).items()
        }
    )
    chosen = [part.strip() for part in (options.measures or "").split(";") if part.strip()]
    known = list(dict.fromkeys(measure for own in made.values() for measure in own))
    for measure in chosen:
        if measure not in known:
            raise UserError(f"--measures: no run has {measure!r}; they have {'; '.join(known)}.")
    shared = [measure for measure in known if all(measure in own for own in made.values())]
    # The attacks behind an inference have names of their own: nothing but the natural is shared.
    chosen = chosen or (shared if set(shared) - {"natural"} else known)
    made = {n: {m: own[m] for m in chosen if m in own} for n, own in made.items()}
    rows = {
        name: {
            m: f"{100 * own[m].accuracy:.2f} % [{100 * own[m].low:.1f}, {100 * own[m].high:.1f}] "
            f"of {own[m].examples}"
            if m in own
            else "-"
            for m in chosen
        }
        for name, own in made.items()
    }
    return bars.draw_bars(made, options.bottom or 0.0, options.title), inputs.table(rows)


MAKERS: dict[str, Callable[[Options], Made]] = {
    "curves": _curves,
    "steps": _steps,
    "surface": _surface,
    "latent": _latent,
    "plane": _plane,
    "moons": _moons,
    "profile": _profile,
    "training": _training,
    "grid": _grid,
    "bars": _bars,
}
