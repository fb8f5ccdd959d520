"""`--inference` of the commands: a trained network behind its manifold transformation."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from robust_tf.cli import Parser, UserError

if TYPE_CHECKING:
    from robust_tf.cli.subject import Subject
    from robust_tf.runs import Run

EVALUATED = """\
the attacks run on the network alone (oblivious) and through the transformation (adaptive),
where others join them that are made for it; the result is printed in columns. "T(x') alone" is
the paper's count of the oblivious ones. Attacks made on another model (Transfer) are oblivious."""


def add_options(parser: Parser, adaptive: bool = True, models: bool = True) -> None:
    """What belongs to a defence at inference.

    Args:
      parser: of the command.
      adaptive: also what belongs to its evaluation.
      models: also --discriminator, of a command that takes --model.
    """
    group = parser.add_argument_group(
        "manifold transformation (networks of ATLD)", EVALUATED if adaptive else None
    )
    group.add_argument("--inference", choices=("imt", "imt+"), help="how images are moved first")
    group.add_argument(
        "--delta", metavar="D", help="by how much, e.g. 8/255; default: the run's eps, or 8/255"
    )
    group.add_argument(
        "--gate",
        metavar="LOW,HIGH",
        help="of imt+: half of delta where D0 is between; default: 0.3,0.7",
    )
    if models:
        group.add_argument(
            "--discriminator",
            metavar="FILE",
            help="with --model, the .keras file of the discriminator that was trained with it; a "
            "run has its own",
        )
    if adaptive:
        group.add_argument(
            "--adaptive",
            choices=("full", "quick"),
            help="full (default): 10 restarts of 100 steps, AutoAttack, Square and RayS; quick: a "
            "first look, proves nothing",
        )


def check_options(options: argparse.Namespace) -> None:
    """Raises UserError for options that want --inference, or do not go with it."""
    discriminator = getattr(options, "discriminator", None)
    if options.inference is None:
        for name in ("delta", "gate", "adaptive", "discriminator"):
            if getattr(options, name, None) is not None:
                raise UserError(f"--{name} belongs to --inference=imt or --inference=imt+.")
    elif getattr(options, "search_dtype", None):
        raise UserError("--search_dtype does not go with --inference: leave it out.")
    elif options.run_dir and discriminator:
        raise UserError("--discriminator goes with --model; that of a run lies beside its network.")
    elif not options.run_dir and not discriminator:
        raise UserError(
            "--inference needs --run_dir, where the discriminator lies beside the network, or "
            "--model=NETWORK.keras with --discriminator=FILE.keras."
        )


def transformation(options: argparse.Namespace, run: Run | None, network: Any = None) -> Any:
    """A network behind the transformation that the options ask for.

    Args:
      options: of `add_options`.
      run: whose network it is; None: `network` with the discriminator of --discriminator.
      network: see above.

    Raises:
      ValueError, FileError: see `runs.load_inference`.
    """
    from robust_tf import runs
    from robust_tf.evaluation import loading
    from robust_tf.evaluation.attack_parser import number

    arguments: dict[str, Any] = {}
    eps = None if run is None else run.eps
    if options.delta or eps:
        arguments["delta"] = number(options.delta) if options.delta else eps
    if options.gate:
        arguments["gate"] = tuple(number(part) for part in options.gate.split(","))
    if run is None:
        discriminator = loading.load_model(options.discriminator)
        model = runs.behind(network, discriminator, options.inference, **arguments)
    else:
        model = runs.load_inference(run, options.inference, **arguments)
    unsure = ""
    if model.gate:
        low, high = model.gate
        unsure = f", {model.gated_delta:.4g} where {low:g} < D0 < {high:g}"
    print(f"{options.inference}: delta {model.delta:.4g}{unsure}", file=sys.stderr)
    return model


def defended(
    options: argparse.Namespace, attacks: dict[str, Any], judged: Subject
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The model to be judged, the attacks in both groups, and what the report says of the model."""
    from robust_tf import evaluation
    from robust_tf.attacks import Transfer
    from robust_tf.evaluation.adaptive import EFFORTS

    for name, one in attacks.items():
        if one.measures_distance:
            raise UserError(f"{name}: --inference compares verdicts at a radius; give it an eps.")
    run = judged.run
    model = transformation(options, run, judged.model)
    groups = evaluation.oblivious_attacks(model, attacks)
    # Images of other models are what they are, whoever is defended.
    attacks = {name: one for name, one in attacks.items() if not isinstance(one, Transfer)}
    groups |= {evaluation.ADAPTIVE + name: attack for name, attack in attacks.items()}
    for norm, eps in dict.fromkeys(ball for one in attacks.values() for ball in one.balls):
        if eps:
            step_size = run.evaluation_step_size if run and eps == run.eps else None
            effort = EFFORTS[options.adaptive or "full"]
            made = evaluation.adaptive_attacks(model, eps, step_size, norm=norm, **effort)
            groups |= {name: one for name, one in made.items() if one not in attacks.values()}
    said = {
        "kind": options.inference,
        "delta": model.delta,
        "gate": model.gate and list(model.gate),
        "gated_delta": model.gate and model.gated_delta,
        "adaptive": options.adaptive or "full",
        **({"discriminator": options.discriminator} if options.discriminator else {}),
    }
    return evaluation.bpda(model), groups, said
