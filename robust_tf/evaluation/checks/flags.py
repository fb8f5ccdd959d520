"""What a check says when it finds something: in plain language, and what to do about it."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Flag:
    """A sign that a robust accuracy may be too high.

    Attributes:
      name: one word for programs, e.g. 'zero_gradients'.
      title: one line.
      explanation: what was seen, and why it matters.
      advice: what to do.
      figures: what was measured, JSON-ready; shares are of the images looked at, in [0, 1].
    """

    name: str
    title: str
    explanation: str
    advice: str
    figures: dict[str, Any]

    def __str__(self) -> str:
        figures = ", ".join(f"{name.replace('_', ' ')} {v}" for name, v in self.figures.items())
        return f"{self.title} ({figures}). {self.explanation} {self.advice}"


def flag(kind: str, **figures: Any) -> Flag:
    """The flag of this kind, 'name' or 'name/variant', with these figures."""
    numbers = {name: round(v, 4) if isinstance(v, float) else v for name, v in figures.items()}
    return Flag(kind.partition("/")[0], *_TEXTS[kind], figures=numbers)


# kind: (title, explanation, advice)
_TEXTS = {
    "collapsed": (
        "The network predicts one class",
        "It gives every image the same class: it has not learnt this data, or its training has "
        "collapsed. Its accuracy is the share of that class, with attacks or without.",
        "Train it again: let eps grow from 0 (train.eps_warmup_epochs), lower the learning rate "
        "or the weights of the method's own terms, or give it more images or epochs.",
    ),
    "collapsed/nan": (
        "The network's outputs are not numbers",
        "Its logits are NaN on every image: its training has diverged, or its file is damaged.",
        "Train it again with a lower learning rate, or with gradients clipped (clipnorm of the "
        "optimizer).",
    ),
    "probabilities": (
        "The model returns probabilities",
        "Its outputs are positive and add up to 1, as after a softmax. The loss of the attacks "
        "applies a softmax of its own, and the gradient of the two together fades where the model "
        "is sure.",
        "models.split(model) takes the softmax off; or evaluate lambda x: tf.math.log(model(x)).",
    ),
    "randomness": (
        "The model is random",
        "The same images gave different outputs. An attack then follows the gradient of one draw, "
        "and an image that failed may pass the next time: a single number is not reproducible.",
        "Switch off what is random at inference (dropout, noise). If it is the defence, attack "
        "its expectation: ExpectationOverTransformation(model, samples=20), with more samples "
        "until the number no longer falls, or AutoAttack's version 'rand'.",
    ),
    "training_batch_norm": (
        "An image's result depends on its batch",
        "The same images got other outputs in other company. This is what batch normalisation in "
        "training mode does; attacks and verdicts then depend on how the images are batched.",
        "Evaluate the model as it is deployed: model(x, training=False), with moving averages.",
    ),
    "input_range/steps": (
        "The model ignores small changes of its images",
        "Moving every pixel by 0.0001 did not change the outputs in the least. Inputs that are "
        "rounded, binarised or encoded in steps do this; their gradient is zero or made up.",
        "Take the rounding out as transform, and attack through it: Defended(network, transform).",
    ),
    "input_range/clipped": (
        "The model ignores the ends of the pixels' range",
        "Moving the darkest and brightest pixels by 0.01 did not change the outputs in the least, "
        "as if the model cut its inputs to a smaller range. No gradient reaches those pixels.",
        "If the model clips its inputs, attack through it: Defended(network, transform). Check "
        "that it takes images in [0, 1].",
    ),
    "input_range/rescaled": (
        "The model seems to take images of another range",
        "It recognises far more of these images when their pixels are rescaled. On pixels in "
        "[0, 1] its accuracy, and any robust accuracy below it, means nothing.",
        "Put the rescaling into the model: models.with_input_range(model, 255.0), or (-1, 1); eps "
        "stays in units of [0, 1].",
    ),
    "zero_gradients": (
        "Gradients are zero, vanishing or not finite",
        "An attack that follows the gradient does not move on these images, whatever its eps. "
        "Large logits (the cross-entropy is then exactly 0), rounding and signs do this.",
        "If only the cross-entropy's gradient is zero, use attacks on the margin or on DLR, or "
        "divide the logits by a constant. If both are, attack through the culprit by "
        "Defended(network, transform). Add a black-box attack (Square, RayS).",
    ),
    "loss_not_rising": (
        "Following the gradient raises the loss no more than noise does",
        "On these images PGD-20 raised the loss no more than random noise of the same size: the "
        "gradients do not point to where the model errs.",
        "Look for rounding, randomness or large logits in the model; attack through them "
        "(Defended, ExpectationOverTransformation), and add black-box attacks (Square, RayS) and "
        "transfer.",
    ),
    "more_steps": (
        "More steps and restarts help a lot",
        "On many images PGD-100 from other starts succeeded where PGD-20 had failed. Attacks with "
        "few steps, and perhaps those with many, are not at the end of what they can find.",
        "Use more steps and restarts until the accuracy stays, and AutoAttack; trust no number "
        "from a few steps.",
    ),
    "large_eps": (
        "Without a limit on the perturbation the attack still fails",
        "With eps so large that any image, or a plain grey one, may be shown, PGD left the "
        "accuracy above chance. No model withstands that: the attack does not work here.",
        "Do not report these robust accuracies. Find out why the gradient attack fails (the other "
        "flags tell), and add black-box attacks (Square, RayS).",
    ),
    "black_box_stronger": (
        "A black-box attack succeeded where every white-box attack failed",
        "An attack that does not use gradients should not find more than those that do. Here it "
        "did, so gradients are masked or the white-box attacks too weak.",
        "Strengthen the white-box attacks (more steps and restarts, AutoAttack, "
        "Defended(network, transform), ExpectationOverTransformation(model)) until they are ahead; "
        "the worst case over all attacks is an upper bound until then.",
    ),
    "restarts_help": (
        "More steps or restarts helped a lot",
        "The same attack with more of them left a much lower accuracy. It has not converged, and "
        "still more may find more.",
        "Raise steps and restarts until the accuracy stays, and run AutoAttack.",
    ),
    "weak_battery": (
        "These attacks are too weak for a claim of robustness",
        "A claim takes at least APGD on the cross-entropy, a targeted or margin attack, and one "
        "that does not use gradients. What is missing here may be what the model is weak against.",
        "Run AutoAttack (bin/evaluate --battery autoattack); call this number a first look.",
    ),
    "weak_battery/estimate": (
        "This robust accuracy is an estimate of AutoAttack's",
        "QuickEstimate runs fewer steps, and leaves images that seem far from the boundary. On a "
        "model of another kind than those that it was compared on, it may be far too high.",
        "For a number to quote run AutoAttack (bin/evaluate --battery=autoattack).",
    ),
    "weak_battery/black_box": (
        "These attacks are too weak for a claim of robustness",
        "A claim takes attacks that follow gradients, and a black box has none. Somebody who has "
        "the model itself may find what these attacks do not.",
        "Call this number a first look; give the attacks more queries, and add Transfer(attack, "
        "source) from models of your own that were trained on the same classes.",
    ),
}
