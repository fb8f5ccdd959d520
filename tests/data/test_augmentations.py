"""Augmentations: values, and what all promise: the same bits for (seed, epoch, position)."""

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat, data, registration
from robust_tf.data.augmenting import describe
from robust_tf.training.distribution import distribute

IMAGES = np.random.default_rng(1).integers(0, 256, (26, 8, 6, 3), np.uint8)
LABELS = np.arange(26) % 4
SEEDS = np.stack([np.full(400, -7), np.arange(400) * 3 - 200], 1).astype(np.int32)


@registration.configurable
@dataclasses.dataclass(frozen=True)
class Darker:
    """A user's own."""

    by: float = 0.5

    def __call__(self, images, seeds):
        return images * (1 - self.by * data.uniform(seeds, 1)[:, :, None, None])


CASES = {
    "keras": data.KerasLayers({"RandomTranslation": {"height_factor": 0.3, "width_factor": 0.2}}),
    "list": [data.Augmentation(pad=1, flip=True), data.Cutout(3), Darker(), data.CutMix()],
}


def _split():
    return data.Split(IMAGES, LABELS)


def _streamed():
    images = tf.constant(IMAGES)
    return data.StreamedSplit(data.Reader(lambda n: images[n], (8, 6, 3), np.uint8, str), LABELS)


def _collect(dataset):
    x, y = zip(*dataset, strict=True)
    return np.concatenate(x), np.concatenate(y)


def _epochs(augmentation, batch_size=6, count=2, split=None, **options):
    options = {"seed": 3, "num_classes": 4, "augmentation": augmentation, **options}
    return data.epochs(split or _split(), batch_size, count, **options)


def _same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CASES)
def test_same_bits_whatever_the_batches(name):
    """Batch size, streaming, a stop in an epoch, and workers' shares change nothing."""
    augmentation = CASES[name]
    one = functools.partial(_epochs, augmentation, count=1, first=1)
    x, y = whole = _collect(one())
    assert x.dtype == np.float32 and x.shape == (24, 8, 6, 3) and 0 <= x.min() and x.max() <= 1
    _same(whole, [part[24:] for part in _collect(_epochs(augmentation))])  # as the second of two
    _same(whole, _collect(one(batch_size=12)))
    _same([part[:24] for part in _collect(one(batch_size=13))], whole)  # none is left out
    _same(whole, _collect(one(split=_streamed())))
    _same([part[12:] for part in whole], _collect(one(skip=2)))
    shares = [list(one(shard=(2, index))) for index in (0, 1)]
    pairs = [pair for batch in zip(*shares, strict=True) for pair in batch]
    _same(whole, _collect(pairs))
    if np.ndim(y) == 2:
        assert y.dtype == np.float32 and y.shape == (24, 4)
        np.testing.assert_allclose(y.sum(1), 1, atol=1e-6)
    else:
        assert y.dtype == np.int32


def test_seeds_epochs_and_places_in_the_list_draw_anew():
    white = data.Split(np.full_like(IMAGES, 255), LABELS)
    made = [
        _collect(_epochs(Darker(), split=white, count=1, batch_size=26, **options))[0]
        for options in ({}, {"seed": 4}, {"seed": 3 + 2**31}, {"first": 1})
    ]
    shades = {round(float(image.mean()), 6) for images in made for image in images}
    assert len(shades) == 4 * 26
    twice, _ = _collect(_epochs([Darker(), Darker()], split=white, count=1, batch_size=26))
    assert (np.abs(twice - made[0] ** 2).max((1, 2, 3)) > 1e-3).sum() > 20


def test_replicas_share_what_one_would_have(two_replicas):
    batches = functools.partial(_epochs, [data.Cutout(3), data.CutMix()], count=1)
    shared = list(distribute(two_replicas, lambda shard: batches(shard=shard), 6))
    for (x, y), parts in zip(batches(), shared, strict=True):
        for whole, part in zip((x, y), parts, strict=True):
            local = two_replicas.experimental_local_results(part)
            np.testing.assert_array_equal(tf.concat(local, 0), whole)


def test_a_dataset_that_is_read_from_its_beginning():
    """Partners are the next ones in its order, and single images those of any batch."""
    split = data.SequentialSplit(tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)))
    plain, _ = _collect(_epochs((), split=split, batch_size=13))
    mixed, y = _collect(_epochs(data.Mixup(), split=split, batch_size=13))
    for first in (0, 26):
        epoch, partners = plain[first : first + 26], np.roll(plain[first : first + 26], -1, 0)
        weights = (mixed[first : first + 26] - partners).reshape(26, -1)
        weights = (weights * (epoch - partners).reshape(26, -1)).sum(1)
        share = weights / ((epoch - partners) ** 2).reshape(26, -1).sum(1)
        expected = share[:, None, None, None] * epoch
        expected += (1 - share[:, None, None, None]) * partners
        np.testing.assert_allclose(mixed[first : first + 26], expected, atol=1e-5)
        assert len(np.unique(share.round(4))) == 26
    np.testing.assert_allclose(y.sum(1), 1, atol=1e-6)
    halves = [_epochs(data.Mixup(), split=split, batch_size=26, shard=(2, n)) for n in (0, 1)]
    pairs = [pair for batch in zip(*halves, strict=True) for pair in batch]
    _same([mixed, y], _collect(pairs))
    single = _collect(_epochs(Darker(), split=split, batch_size=13))
    _same(single, _collect(_epochs(Darker(), split=split, batch_size=26)))


def _splitmix(high, low, count):
    """The published generator on Python's integers."""
    mask = 2**64 - 1

    def mix(z):
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    state, found = mix((int(high) % 2**32) << 32 | int(low) % 2**32), []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        found.append((mix(state) >> 40) / 2**24)
    return found


def test_uniform_numbers():
    got = data.uniform(tf.constant(SEEDS), 3)
    expected = np.array([_splitmix(*seed, 3) for seed in SEEDS], np.float32)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(data.uniform(tf.constant(SEEDS), 2, first=1), expected[:, 1:])
    many = np.stack([np.full(20_000, 9), np.arange(20_000)], 1).astype(np.int32)
    numbers = data.uniform(tf.constant(many), 2).numpy()
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.histogram2d(*numbers.T, bins=10, range=[[0, 1], [0, 1]])[0]
    assert ((counts - 200) ** 2 / 200).sum() < 149  # chi-squared of 99 degrees, 0.001


def test_cutout():
    """Half of the square may lie outside; its center is any pixel."""
    images = np.random.default_rng(0).random((400, 8, 6, 3)).astype(np.float32)
    got = data.Cutout(4, fill=0.25)(tf.constant(images), tf.constant(SEEDS)).numpy()
    numbers = data.uniform(tf.constant(SEEDS), 2).numpy()
    corners = set()
    for image, mine, (row, column) in zip(images, got, numbers, strict=True):
        row, column = int(row * 8), int(column * 6)
        corners.add((row, column))
        image = image.copy()
        image[max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = 0.25
        np.testing.assert_array_equal(mine, image)
    assert len(corners) == 48


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1, 4.0])
def test_mixup(alpha):
    scipy = pytest.importorskip("scipy.stats")
    images = np.random.default_rng(0).random((400, 2, 2, 1)).astype(np.float32)
    partners = images[::-1].copy()
    mixed, share = data.Mixup(alpha)(images, partners, tf.constant(SEEDS))
    numbers = data.uniform(tf.constant(SEEDS), 1)[:, 0].numpy().astype(np.float64)
    np.testing.assert_allclose(share, scipy.beta.ppf(numbers, alpha, alpha), atol=1e-6)
    own = np.asarray(share)[:, None, None, None]
    np.testing.assert_allclose(mixed, own * images + (1 - own) * partners, atol=1e-6)


def test_cutmix():
    images, partners = np.zeros((400, 8, 6, 1), np.float32), np.ones((400, 8, 6, 1), np.float32)
    mixed, share = data.CutMix(1.0)(images, partners, tf.constant(SEEDS))
    numbers = data.uniform(tf.constant(SEEDS), 3).numpy()
    for mine, own, (lam, row, column) in zip(mixed.numpy(), share.numpy(), numbers, strict=True):
        half = [int(size * np.sqrt(1 - lam)) // 2 for size in (8, 6)]
        expected, (row, column) = np.zeros((8, 6, 1)), (int(row * 8), int(column * 6))
        rows = slice(max(row - half[0], 0), row + half[0])
        expected[rows, max(column - half[1], 0) : column + half[1]] = 1
        np.testing.assert_array_equal(mine, expected)
        assert own == pytest.approx(1 - expected.mean(), abs=1e-6)  # the area that is really pasted


def test_labels_are_mixed_as_images():
    """Of images that are their class: what is in a mixture is what its label says."""
    images = np.repeat(LABELS, 48).reshape(26, 8, 6, 1).astype(np.float32) / 3
    split = data.Split(images, LABELS)
    for augmentation in (data.Mixup(), data.CutMix()):
        x, y = _collect(_epochs(augmentation, split=split, count=1))
        np.testing.assert_allclose(x.mean((1, 2, 3)), y @ np.arange(4) / 3, atol=1e-5)
    plain, order = _collect(_epochs((), split=split, count=1))
    assert (y[np.arange(24), order] > 0.999).any() and (y.max(1) < 0.9).any()


def test_keras_layers_by_their_formulas():
    """One factor for each image: brightness and contrast, and a mirror, recomputed."""
    seeds = tf.constant(SEEDS[:50])
    images = np.random.default_rng(0).random((50, 8, 6, 3)).astype(np.float32) / 2 + 0.25
    layers = data.KerasLayers({"RandomBrightness": {"factor": (0.0, 0.2)}})
    moved = layers(tf.constant(images), seeds).numpy() - images
    assert (moved.max((1, 2, 3)) - moved.min((1, 2, 3))).max() < 1e-6
    moved = moved.mean((1, 2, 3))
    assert 0 <= moved.min() and moved.max() <= 0.2 and moved.std() > 0.03
    np.testing.assert_allclose(moved, data.uniform(seeds, 1)[:, 0] * 0.2, atol=1e-6)
    layers = data.KerasLayers({"RandomFlip": {"mode": "horizontal"}})
    flipped = layers(tf.constant(images), seeds).numpy()
    mirrored = np.array([(a == b[:, ::-1]).all() for a, b in zip(flipped, images, strict=True)])
    kept = np.array([(a == b).all() for a, b in zip(flipped, images, strict=True)])
    assert (mirrored ^ kept).all() and 10 < mirrored.sum() < 40


ARGUMENTS = {
    "RandomColorJitter": {"brightness_factor": 0.3, "saturation_factor": 0.5, "hue_factor": 0.2},
    "RandomPosterization": {"factor": [2, 6]},
    "RandomRotation": {"factor": 0.1},
    "RandomShear": {"x_factor": 0.4, "y_factor": 0.4},
    "RandomTranslation": {"height_factor": 0.3, "width_factor": 0.3},
    "RandomZoom": {"height_factor": 0.3},
    "Solarization": {"addition_factor": 0.3, "threshold_factor": 0.8},
    "RandomFlip": {},
    "RandomErasing": {},
    "RandomGaussianBlur": {"factor": 1.0, "sigma": (0.5, 2.0)},
    "RandomPerspective": {},
    "AutoContrast": {},
    "Equalization": {},
}


@pytest.mark.parametrize("name", data.KerasLayers.known())
def test_every_keras_layer_is_a_function_of_the_seed(name):
    """In one batch or two, made anew; copies of an image go different ways, if there is chance."""
    arguments = {name: ARGUMENTS.get(name, {"factor": 0.6})}
    images = tf.constant(np.tile(IMAGES[:1], (7, 1, 1, 1)) / np.float32(255))
    seeds = tf.constant(SEEDS[:7])

    def apply(images, seeds):
        layers = data.KerasLayers(arguments)
        return tf.function(lambda x, s: layers(x, s), autograph=False)(images, seeds).numpy()

    whole = apply(images, seeds)
    assert 0 <= whole.min() and whole.max() <= 1 and whole.dtype == np.float32
    parts = [apply(images[rows], seeds[rows]) for rows in (slice(0, 2), slice(2, 7))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    if name not in ("AutoContrast", "Equalization"):
        assert len(np.unique(whole.reshape(7, -1), axis=0)) > 1


REFUSED = {
    "KerasLayers.*AugMix.*Python's random numbers.*known are .*RandomRotation": lambda: (
        data.KerasLayers({"AugMix": {}})
    ),
    "KerasLayers.*Turn.*known are .*RandomZoom": lambda: data.KerasLayers({"Turn": {}}),
    "KerasLayers: RandomRotation does not take .*angle": lambda: data.KerasLayers(
        {"RandomRotation": {"angle": 3}}
    ),
    "must be a dict of names": lambda: data.KerasLayers("RandomRotation"),
    r"Cutout\(size=0\)": lambda: data.Cutout(0),
    r"Cutout\(fill=2\)": lambda: data.Cutout(fill=2),
    r"Mixup\(alpha=0\)": lambda: data.Mixup(0),
    r"CutMix\(alpha='1'\)": lambda: data.CutMix("1"),
    r"Cutout\(size=7\): must be 1 \.\. 6, the shorter side": lambda: _epochs(data.Cutout(7)),
    "must be the last": lambda: _epochs([data.Mixup(), data.Cutout(4)]),
    "the only one": lambda: _epochs([data.Mixup(), data.CutMix()]),
    "may be there once": lambda: _epochs([data.Augmentation(1), data.Augmentation(2)]),
    "with brackets": lambda: _epochs(data.Cutout),
    "must be an augmentation.* or a list": lambda: _epochs("cutout"),
    "num_classes=dataset.num_classes": lambda: _epochs(data.Mixup(), num_classes=None),
    r"gave float32 \(6, 4, 6, 3\)": lambda: _epochs(lambda images, seeds: images[:, ::2]),
    "gave float64": lambda: _epochs(lambda images, seeds: tf.cast(images, tf.float64)),
    r"Cutout.*needs images": lambda: _epochs(
        data.Cutout(4), split=data.Split(np.zeros((9, 2), np.float32), LABELS[:9])
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refuses(message):
    with pytest.raises(ValueError, match=message) as caught:
        REFUSED[message]()
    assert "in user code" not in str(caught.value)


def test_layers_that_need_colors_say_so():
    if not compat.KERAS_3:
        pytest.skip(f"Keras {keras.__version__} has none")
    gray = data.Split(IMAGES[..., :1], LABELS)
    with pytest.raises(ValueError, match=r"RandomHue cannot take images \(8, 6, 1\)"):
        _epochs(data.KerasLayers({"RandomHue": {"factor": 0.2}}), split=gray)


def test_description_for_the_run():
    layers = {"RandomZoom": {"height_factor": 0.2}}
    told = describe([data.Augmentation(2), data.KerasLayers(layers), Darker(0.25)])
    assert json.loads(json.dumps(told)) == told
    assert [one["name"] for one in told] == ["Augmentation", "KerasLayers", "Darker"]
    arguments = [one["arguments"] for one in told]
    assert arguments == [{"pad": 2, "flip": False}, {"layers": layers}, {"by": 0.25}]
    assert told[2]["module"] == __name__ and describe(data.Augmentation()) == []


def test_nothing_is_done_outside_of_training():
    images, labels = _collect(data.batches(_split(), 6, augmentation=data.Mixup()))
    np.testing.assert_array_equal(images, IMAGES / np.float32(255))
    np.testing.assert_array_equal(labels, LABELS)


def test_an_augmentation_that_changes_nothing_is_left_out():
    _same(_collect(_epochs([data.Augmentation()])), _collect(_epochs(())))


def test_mixed_splits_mix():
    """Additional examples are partners, too."""
    split = data.MixedSplit.of(_split(), data.Split(IMAGES[:20], np.full(20, 3)), 0.5)
    x, y = _collect(_epochs(data.CutMix(), split=split, batch_size=8, count=1))
    assert x.shape == (24, 8, 6, 3) and y.shape == (24, 4)
