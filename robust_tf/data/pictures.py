"""Picture files to images of one size."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

RESIZES = ("pad", "crop", "stretch")
_RATIOS = (1, 2, 4, 8)  # by which a JPEG can be made smaller as it is decoded


def image_of(
    content: tf.Tensor,
    gray: tf.Tensor,
    orientation: tf.Tensor,
    channels: int,
    size: tuple[int, int],
    resize: str,
) -> tf.Tensor:
    """A picture as an image of this size, upright.

    Args:
      content: bytes of the file, ().
      gray: bool (), what its header says.
      orientation: EXIF's, int () in 1 .. 8.
      channels: 3, or 1: a picture in color by its luma, ITU-R 601.
      size: height and width.
      resize: see `fit`. Of a JPEG that is 2, 4 or 8 times larger no more than a half, a quarter or
        an eighth of each side is decoded, as the format allows: the means of its blocks, nearly,
        in less time.

    Returns:
      uint8 (height, width, channels); of a GIF the first frame.
    """

    def jpeg() -> tuple[tf.Tensor, tf.Tensor]:
        stored = tf.image.extract_jpeg_shape(content)[:2]
        sides = tf.where(orientation > 4, stored[::-1], stored)
        times = tf.reduce_min(sides // _scaled(sides, size, resize))
        case = sum(tf.cast(times >= ratio, tf.int32) for ratio in _RATIOS[1:])
        image = tf.switch_case(case, [_jpeg_decoder(content, ratio) for ratio in _RATIOS])
        whole = stored // tf.gather(_RATIOS, case)  # what is left over at two edges is cut
        return image[: whole[0], : whole[1]], sides

    def other() -> tuple[tf.Tensor, tf.Tensor]:
        image = _decoded(content)
        return image, tf.shape(image)[:2]

    is_jpeg = tf.strings.substr(content, 0, 2) == b"\xff\xd8"
    image, sides = tf.cond(is_jpeg, jpeg, other)
    return fit(upright(_in_channels(image, gray, channels), orientation), size, resize, sides)


def decode(content: tf.Tensor, gray: tf.Tensor, channels: int) -> tf.Tensor:
    """A picture as an image of its own size, as it is stored; arguments as of `image_of`."""
    return _in_channels(_decoded(content), gray, channels)


def _decoded(content: tf.Tensor) -> tf.Tensor:
    """uint8 (H, W, 3)."""
    image = tf.io.decode_image(content, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def _jpeg_decoder(content: tf.Tensor, ratio: int) -> Callable[[], tf.Tensor]:
    return lambda: tf.io.decode_jpeg(content, channels=3, ratio=ratio)


def _in_channels(image: tf.Tensor, gray: tf.Tensor, channels: int) -> tf.Tensor:
    """An image uint8 (H, W, 3) in so many channels, see `image_of`."""
    if channels == 3:
        return image
    luma = tf.tensordot(tf.cast(image, tf.float32), [0.299, 0.587, 0.114], 1)
    return tf.where(gray, image[..., :1], tf.cast(tf.round(luma), tf.uint8)[..., None])


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """An image (H, W, C) turned as EXIF's orientation, int () in 1 .. 8, says."""
    # 5 .. 8 are mirrored at the diagonal, then as 1 .. 4 with the axes exchanged.
    turned = tf.cond(orientation > 4, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    down = tf.reduce_any(orientation == [3, 4, 7, 8])
    across = tf.reduce_any(orientation == [2, 3, 6, 7])
    turned = tf.cond(down, lambda: tf.reverse(turned, [0]), lambda: turned)
    return tf.cond(across, lambda: tf.reverse(turned, [1]), lambda: turned)


def fit(
    image: tf.Tensor, size: tuple[int, int], resize: str, sides: tf.Tensor | None = None
) -> tf.Tensor:
    """An image of this size, by bilinear interpolation, rounded to whole levels.

    A side that is k times as long or more is first made k times shorter by the means of k pixels,
    k a whole number: without that, interpolation would leave most pixels out. Other smoothing is
    several times slower.

    Args:
      image: uint8 (H, W, C).
      size: height and width.
      resize: 'pad': the whole picture in its proportions, on black; 'crop': as much of its middle
        as fills the size; 'stretch': the whole, its proportions changed. A picture of this size
        stays as it is.
      sides: the picture's own height and width, of which the proportions are taken; None: those of
        `image`.
    """
    height, width = size
    own = tf.shape(image)[:2]

    def scaled() -> tf.Tensor:
        target = _scaled(own if sides is None else sides, size, resize)
        blocks = tf.maximum(own // target, 1)
        is_large = tf.reduce_any(blocks > 1)
        pixels = tf.cond(is_large, lambda: _means(image, blocks), lambda: image)
        pixels = tf.cast(tf.round(tf.image.resize(pixels, target)), tf.uint8)
        if resize != "stretch":
            pixels = tf.image.resize_with_crop_or_pad(pixels, height, width)
        return pixels

    same = tf.reduce_all(own == size)
    found = tf.cond(same, lambda: image, scaled)
    return tf.ensure_shape(found, [height, width, image.shape[-1]])


def _scaled(sides: tf.Tensor, size: tuple[int, int], resize: str) -> tf.Tensor:
    """Height and width, int32 (2,), to which a picture is scaled before it is padded or cropped."""
    if resize == "stretch":
        return tf.constant(size, tf.int32)
    ratios = tf.cast(size, tf.float32) / tf.cast(sides, tf.float32)
    ratio = tf.reduce_min(ratios) if resize == "pad" else tf.reduce_max(ratios)
    return tf.maximum(tf.cast(tf.round(tf.cast(sides, tf.float32) * ratio), tf.int32), 1)


def _means(image: tf.Tensor, blocks: tf.Tensor) -> tf.Tensor:
    """The mean of each block of pixels, uint8; what is left over at two edges is cut evenly."""
    sides = tf.shape(image)[:2] // blocks
    first = (tf.shape(image)[:2] - sides * blocks) // 2
    last = first + sides * blocks
    image = image[first[0] : last[0], first[1] : last[1]]
    return tf.cast(tf.round(tf.image.resize(image, sides, "area")), tf.uint8)
