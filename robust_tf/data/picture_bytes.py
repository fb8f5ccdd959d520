"""The bytes of a picture file to an image, in the graph: for models that are given whole files."""

from __future__ import annotations

import tensorflow as tf

from robust_tf.data.pictures import fit, image_of, upright

_SPARE = 16  # bytes behind the last, so that no number is read beyond the end


def image_of_bytes(content: tf.Tensor, shape: tuple[int, int, int], resize: str) -> tf.Tensor:
    """The image that `ImageFolder` and `ImageTable` make of a file, to the bit.

    Args:
      content: bytes of the file, (): JPEG, PNG, BMP or GIF.
      shape: (height, width, channels) of the image, 1, 3 or 4 channels (no source gives 4).
      resize: 'pad', 'crop' or 'stretch', see `pictures.fit`.

    Returns:
      uint8, of this shape.
    """
    height, width, channels = shape
    if channels == 4:
        image = tf.io.decode_image(content, channels=4, expand_animations=False)
        image = tf.ensure_shape(image, [None, None, 4])
        return fit(upright(image, orientation_of(content)), (height, width), resize)
    # The luma of a gray picture is its brightness: whether it is one makes no difference.
    turned = orientation_of(content)
    return image_of(content, tf.constant(False), turned, channels, (height, width), resize)


def orientation_of(content: tf.Tensor) -> tf.Tensor:
    """EXIF's orientation of a file, as `picture_headers.read_header` finds it.

    Args:
      content: bytes of the file, ().

    Returns:
      int32 () in 1 .. 8; 1 of a file that says nothing of it, or is no JPEG.
    """
    data = tf.cast(tf.io.decode_raw(content, tf.uint8), tf.int32)
    size = tf.shape(data)[0]
    data = tf.pad(data, [[0, _SPARE]])
    is_jpeg = (size > 4) & (data[0] == 0xFF) & (data[1] == 0xD8)
    start, end = tf.cond(is_jpeg, lambda: _exif(data, size), lambda: (0, 0))
    return tf.cond(end > start, lambda: _orientation(data, start, end), lambda: tf.constant(1))


def _exif(data: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the last EXIF segment before a JPEG's pixels begins and ends; (0, 0) without one."""

    def goes_on(place: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        marker = data[place + 1]
        is_frame = (marker >= 0xC0) & (marker <= 0xCF)
        is_frame &= (marker != 0xC4) & (marker != 0xC8) & (marker != 0xCC)
        is_last = is_frame | (marker == 0xD9) | (marker == 0xDA)
        return (place + 4 <= size) & (data[place] == 0xFF) & ~is_last

    def step(place: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, ...]:
        marker = data[place + 1]
        length = 256 * data[place + 2] + data[place + 3]
        is_exif = (marker == 0xE1) & tf.reduce_all(data[place + 4 : place + 10] == [*b"Exif\0\0"])
        start = tf.where(is_exif, place + 10, start)
        end = tf.where(is_exif, tf.minimum(place + 2 + length, size), end)
        is_short = (marker == 0x01) | ((marker >= 0xD0) & (marker <= 0xD7))  # without content
        after = tf.where(marker == 0xFF, 1, tf.where(is_short, 2, 2 + length))
        return tf.minimum(place + after, size), start, end

    zero = tf.constant(0)
    _, start, end = tf.while_loop(goes_on, step, (tf.constant(2), zero, zero))
    return start, end


def _orientation(data: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """EXIF's orientation in the TIFF structure between two places of a file."""
    is_little = tf.reduce_all(data[start : start + 2] == [*b"II"])
    is_big = tf.reduce_all(data[start : start + 2] == [*b"MM"])

    def number(at: tf.Tensor, count: int) -> tf.Tensor:
        """Of `count` bytes at each place."""
        places = tf.minimum(at[:, None] + tf.range(count), tf.shape(data)[0] - 1)
        found = tf.cast(tf.gather(data, places), tf.int64)
        found = tf.cond(is_little, lambda: tf.reverse(found, [1]), lambda: found)
        return tf.reduce_sum(found * [256 ** (count - 1 - k) for k in range(count)], axis=1)

    first = number(start[None] + 4, 4)[0]
    first = tf.cast(tf.minimum(first, tf.cast(end, tf.int64)), tf.int32)
    table = start + first
    count = tf.cast(number(table[None], 2)[0], tf.int32)
    entries = table + 2 + 12 * tf.range(count)
    entries = tf.boolean_mask(entries, entries + 10 <= end)
    entries = tf.boolean_mask(entries, number(entries, 2) == 0x0112)[:1]
    values = tf.concat([number(entries + 8, 2), [1]], 0)
    is_told = (is_little | is_big) & (values[0] >= 1) & (values[0] <= 8)
    return tf.cast(tf.where(is_told, values[0], 1), tf.int32)
