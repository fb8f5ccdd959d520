"""`--dry_run` of `bin/train`: what a run would do, as text."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robust_tf.recipes import LoadedRecipe


def describe(recipe: LoadedRecipe, strategy: Any) -> str:
    """The recipe, and what is made of it here: network, data, schedule, precision, devices.

    Raises:
      ValueError, DataError: the run could not be trained, or its model not be read back.
    """
    from robust_tf import data, precision
    from robust_tf.data.augmenting import as_augmentations, names
    from robust_tf.training import readback
    from robust_tf.training.distribution import spans_replicas
    from robust_tf.training.run_guard import settings_of

    model, settings, dataset = recipe.model(strategy=strategy), recipe.settings, recipe.data()
    readback.check(model, dataset.image_shape, settings.attacks(), spans_replicas(strategy))
    steps = data.steps_per_epoch(dataset.train, settings.batch_size)
    options = {"augmentation": dataset.augmentation, "num_classes": dataset.num_classes}
    data.epochs(dataset.train, settings.batch_size, 1, **options)  # says what it cannot take
    with warnings.catch_warnings():  # said when the model was built
        warnings.simplefilter("ignore")
        chosen = precision.choose(settings.dtype_policy)
    weights = ", ".join(f"{name} {weight:g}" for name, weight in model.term_weights.items())
    return "\n".join(
        [
            recipe.text,
            f"method      {type(model).__name__}: {weights}",
            f"network     {model.network.name}, {model.network.count_params():,} parameters",
            f"data        {dataset.name}: {len(dataset.train)} training, {len(dataset.validation)} "
            f"validation, {len(dataset.test)} test images {dataset.image_shape}, "
            f"{'in memory' if dataset.train.in_memory else 'read when needed'}",
            *_classes(dataset),
            f"augmented   {names(as_augmentations(dataset.augmentation)) or 'no'}",
            f"schedule    {settings.epochs} epochs of {steps} steps of "
            f"{settings.batch_size} images",
            f"precision   {chosen.dtype}, {chosen.reason}",
            *_step(settings),
            *_guard(settings_of(settings, model, dataset)),
            f"strategy    {_strategy(strategy)}",
            "",
        ]
    )


def _strategy(strategy: Any) -> str:
    """Its public name; TensorFlow's default strategy, which is private, is none."""
    name, replicas = type(strategy).__name__, strategy.num_replicas_in_sync
    return "none, one device" if name.startswith("_") else f"{name}, {replicas} replica(s)"


def _step(settings: Any) -> list[str]:
    """How a step is computed, where it is not at once."""
    found = [f"in {settings.accumulate} parts"] if settings.accumulate > 1 else []
    found += ["rematerialized"] if settings.remat else []
    found += [f"XLA {settings.xla}"] if settings.xla != "off" else []
    return [f"step        {', '.join(found)}"] if found else []


def _guard(settings: dict[str, Any] | None) -> list[str]:
    """How often a run is looked at for catastrophic overfitting, and what is done about it."""
    if settings is None:
        return []
    return [
        f"watched     every {settings['every']} steps for catastrophic overfitting, on "
        f"{settings['images']} images ({settings['split']}), {settings['share_of_passes']:.1%} of "
        f"the passes; train.on_collapse = {settings['on_collapse']!r}"
    ]


def _classes(dataset: Any) -> list[str]:
    """The names of the classes, where they are known."""
    names = dataset.class_names
    if not names:
        return []
    more = f", ... ({len(names)})" if len(names) > 12 else ""
    return [f"classes     {', '.join(names[:12])}{more}"]
