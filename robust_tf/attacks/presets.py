"""The gradient attacks of the literature, each a setting of `ProjectedGradient`.

`norm` is 'Linf' or 'L2'; eps and step_size are in pixel units of images in [0, 1].
"""

from __future__ import annotations

from robust_tf import registration
from robust_tf.attacks.objectives import CrossEntropy, KLDivergence, Margin
from robust_tf.attacks.projected_gradient import ProjectedGradient
from robust_tf.attacks.steps import CleanStart, GaussianStart, Momentum, Steepest, UniformStart
from robust_tf.attacks.threat import L2, Linf, Threat
from robust_tf.validation import check_norm


def threat(norm: str, eps: float) -> Threat:
    """`Linf(eps)` or `L2(eps)`.

    Raises:
      ValueError: another norm.
    """
    check_norm("threat", norm)
    return {"Linf": Linf, "L2": L2}[norm](eps)


@registration.configurable
def FGSM(
    eps: float,
    random_start: bool = False,
    norm: str = "Linf",
    targeted: bool = False,
    batch_norm: str = "running",
) -> ProjectedGradient:
    """One step of size eps along the gradient's sign (Goodfellow et al., 2015).

    `random_start` takes the gradient at a uniform point of the ball, as the Feature Scattering and
    ATLD programs do.
    """
    return ProjectedGradient(
        threat(norm, eps),
        Steepest(eps or 1.0),  # eps 0 leaves one point; any step is projected back to it
        steps=1,
        objective=CrossEntropy(targeted),
        start=UniformStart() if random_start else CleanStart(),
        batch_norm=batch_norm,
    )


@registration.configurable
def BIM(
    eps: float,
    step_size: float,
    steps: int,
    keep: str = "last",
    norm: str = "Linf",
    targeted: bool = False,
    batch_norm: str = "running",
) -> ProjectedGradient:
    """PGD from the clean image (Kurakin et al., 2017)."""
    return ProjectedGradient(
        threat(norm, eps),
        Steepest(step_size),
        steps,
        CrossEntropy(targeted),
        CleanStart(),
        keep=keep,
        batch_norm=batch_norm,
    )


@registration.configurable
def PGD(
    eps: float,
    step_size: float,
    steps: int,
    restarts: int = 1,
    keep: str = "last",
    norm: str = "Linf",
    targeted: bool = False,
    batch_norm: str = "running",
) -> ProjectedGradient:
    """Projected gradient ascent of the cross-entropy from a uniform start (Madry et al., 2018)."""
    return ProjectedGradient(
        threat(norm, eps),
        Steepest(step_size),
        steps,
        CrossEntropy(targeted),
        UniformStart(),
        restarts,
        keep,
        batch_norm,
    )


@registration.configurable
def MIM(
    eps: float,
    step_size: float,
    steps: int,
    decay: float = 1.0,
    keep: str = "last",
    norm: str = "Linf",
    targeted: bool = False,
    batch_norm: str = "running",
) -> ProjectedGradient:
    """The momentum iterative method, from the clean image (Dong et al., 2018)."""
    return ProjectedGradient(
        threat(norm, eps),
        Momentum(step_size, decay),
        steps,
        CrossEntropy(targeted),
        CleanStart(),
        keep=keep,
        batch_norm=batch_norm,
    )


@registration.configurable
def CW(
    eps: float,
    step_size: float,
    steps: int,
    confidence: float = 50.0,
    restarts: int = 1,
    keep: str = "last",
    norm: str = "Linf",
    targeted: bool = False,
    batch_norm: str = "running",
) -> ProjectedGradient:
    """PGD on the margin of Carlini & Wagner (2017), confidence 50; not their CW-L2 optimisation."""
    return ProjectedGradient(
        threat(norm, eps),
        Steepest(step_size),
        steps,
        Margin(targeted, confidence),
        UniformStart(),
        restarts,
        keep,
        batch_norm,
    )


@registration.configurable
def TRADESAttack(
    eps: float,
    step_size: float,
    steps: int,
    direction: str = "clean_adv",
    random_start: str = "gaussian",
    norm: str = "Linf",
    batch_norm: str = "running",
) -> ProjectedGradient:
    """The inner problem of TRADES: PGD on the KL divergence from the clean prediction.

    Args:
      eps: radius of the ball.
      step_size: of each step.
      steps: number of steps.
      direction: 'clean_adv', KL(p(x) || p(x')), official; 'adv_clean' in ADR's released program.
      random_start: 'gaussian' (0.001, official) or 'uniform' (ADR's released program).
      norm: 'Linf' or 'L2'. The official L2 version is another algorithm (SGD on the perturbation).
      batch_norm: see `ProjectedGradient`.

    Source: Zhang et al. (2019), `trades.py`; Bui et al. (2020), `ADR_tf/trades.py`.
    """
    starts = {"gaussian": GaussianStart(), "uniform": UniformStart()}
    if random_start not in starts:
        raise ValueError(f"random_start={random_start!r}: must be one of {tuple(starts)}.")
    return ProjectedGradient(
        threat(norm, eps),
        Steepest(step_size),
        steps,
        KLDivergence(direction=direction),
        starts[random_start],
        batch_norm=batch_norm,
    )
