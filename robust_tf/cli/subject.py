"""What a command is about: the network of a run, or a model file, and the data it is judged on."""

from __future__ import annotations

import argparse
import functools
import re
import sys
from typing import TYPE_CHECKING, Any

from robust_tf.cli import Parser, UserError

if TYPE_CHECKING:
    from robust_tf.runs import Run

CHECKPOINT = """\
a checkpoint (.safetensors, .pt, .pth) holds weights alone; these say the rest, see
docs/checkpoints.md. bin/convert writes a .keras file, which needs none of them."""
PATHS = ".keras file, folder of a SavedModel, package.module:name, or checkpoint with --network"


def add_model(group: Any, files: str = PATHS) -> None:
    """--run_dir and --model, one of which is given; `files` says what --model may be."""
    group.add_argument("--run_dir", metavar="DIR", help="folder of a finished training run")
    group.add_argument("--model", metavar="PATH", help=files)


def add_checkpoint(parser: Parser) -> None:
    """What has to be said of a checkpoint."""
    group = parser.add_argument_group("checkpoints of PyTorch", CHECKPOINT)
    group.add_argument(
        "--network",
        metavar="TEXT",
        help='such as "WideResNet(depth=34, width=10)"; a builder of your own by --import',
    )
    group.add_argument(
        "--input_range",
        metavar="R",
        help="what the weights want of pixels in [0, 1], where the file does not tell: 255, or "
        '-1,1, or "mean=0.49,0.48,0.45 std=0.25,0.24,0.26", or caffe, tf, torch; default: [0, 1]',
    )
    group.add_argument(
        "--entry",
        metavar="NAME",
        help="of the file's entries, such as state_dict_ema; default: see docs/checkpoints.md",
    )
    group.add_argument(
        "--input_shape",
        metavar="H,W,C",
        help="of one image; default: channels by the file, side 28 for 1 and 32 for 3",
    )
    group.add_argument(
        "--num_classes", metavar="N", help="default: the width of the last layer in the file"
    )


def add_data(parser: Parser, own: str) -> None:
    """--dataset and --data_dir; `own` says what becomes of a command without them."""
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help=f"of a dataset, or a folder of pictures, one folder for each class; {own}",
    )
    parser.add_argument(
        "--data_dir", metavar="DIR", help="TensorFlow datasets; default: TFDS_DATA_DIR"
    )


def about_checkpoint(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_checkpoint` as arguments of `loading.load_model`.

    Raises:
      UserError: one that cannot be read.
    """
    given: dict[str, Any] = {"network": options.network, "entry": options.entry}
    if options.input_range is not None:
        given["input_range"] = pixel_range(options.input_range)
    if options.input_shape is not None:
        sides = _wholes(options.input_shape, "input_shape", "32,32,3")
        given["input_shape"] = tuple(sides)
    if options.num_classes is not None:
        [given["num_classes"]] = _wholes(options.num_classes, "num_classes", "10", 1)
    return {name: value for name, value in given.items() if value is not None}


def pixel_range(text: str) -> Any:
    """What `models.from_torch` takes as input_range; UserError for what cannot be read."""
    from robust_tf.evaluation.attack_parser import number

    text = text.strip()
    pairs = re.findall(r"(\w+)\s*=\s*([^=]*?)(?=[\s;]+\w+\s*=|$)", text)
    try:
        if pairs:
            if [name for name, _ in pairs] != ["mean", "std"]:
                raise ValueError
            lists = {name: [number(one) for one in _split(values)] for name, values in pairs}
            return {name: one if len(one) > 1 else one[0] for name, one in lists.items()}
        if text in ("caffe", "tf", "torch"):
            return text
        ends = [number(one) for one in _split(text)]
        return ends[0] if len(ends) == 1 else tuple(ends)
    except ValueError:
        raise UserError(
            f"--input_range={text!r}: must be the highest value, such as 255, the lowest and the "
            'highest, such as -1,1, "mean=0.5,0.5,0.5 std=0.25,0.25,0.25", or caffe, tf or torch.'
        ) from None


def _split(text: str) -> list[str]:
    return [one for one in text.strip(" ;()[]").split(",") if one.strip()]


def _wholes(text: str, option: str, example: str, count: int | None = None) -> list[int]:
    parts = [one.strip() for one in text.strip(" ()[]").split(",") if one.strip()]
    right = parts and all(one.isdecimal() and int(one) for one in parts)
    if not right or len(parts) not in ([count] if count else (1, 3)):
        raise UserError(f"--{option}={text}: must be whole numbers >= 1, such as {example}.")
    return [int(one) for one in parts]


class Subject:
    """What --run_dir or --model names.

    Args:
      options: of `add_model`, `add_checkpoint` and `add_data`.

    Attributes:
      path: as it was given.
      run: the run; None of a model file.

    Raises:
      UserError, RunError: options that cannot be read, or do not go together; no such run.
    """

    def __init__(self, options: argparse.Namespace):
        from robust_tf import runs

        self._options, self._checkpoint = options, about_checkpoint(options)
        self.path: str = options.run_dir or options.model
        self.run: Run | None = None
        if options.run_dir:
            if self._checkpoint:
                raise UserError(
                    f"--{next(iter(self._checkpoint))} is of a checkpoint of PyTorch, which "
                    "--model names; --run_dir is the folder of a run, whose network is known."
                )
            self.run = runs.read_run(options.run_dir)

    @functools.cached_property
    def model(self) -> Any:
        """The network, loaded when it is first asked for.

        Raises:
          FileError, ValueError: see `runs.Run.model` and `loading.load_model`.
        """
        from robust_tf.evaluation import loading

        if self.run is not None:
            return self.run.model
        return loading.load_model(self.path, **self._checkpoint)

    @property
    def record(self) -> dict[str, Any]:
        """What a result file says of it: where it lies, and of weights from elsewhere, whence."""
        weights = getattr(self.model, "weights_source", None)
        said: dict[str, Any] = {"run_dir" if self.run else "model": self.path}
        return said | ({"weights_source": weights} if weights else {})

    def data(self, split: str) -> tuple[Any, dict[str, Any]]:
        """The dataset that the options name, or the run's own; and what a result says of it.

        Raises:
          UserError, DataError: none is named; it is not there.
        """
        from robust_tf import data

        own: dict[str, Any] = {} if self.run is None else self.run.data
        name = self._options.dataset or own.get("name")
        if not name:
            raise UserError(
                f"no dataset: give --dataset, one of {', '.join(data.NAMES)}, or a folder of "
                "pictures."
            )
        said: dict[str, Any] = {"name": name, "split": split}
        if name == own.get("name"):  # the run's own validation examples, not some it trained on
            loaded = data.load_recorded(own, self._options.data_dir)
            size = own.get("validation_size", own.get("validation"))
            said |= {} if size is None else {"validation_size": size}
            said |= {"seed": own["seed"]} if "seed" in own else {}
        else:
            images = {**_images_of(self.model), **own}
            loaded = data.open_dataset(name, images, self._options.data_dir)
            if loaded.name != name:
                said |= {"name": loaded.name, "dataset": name}
        part = getattr(loaded, split)
        seen = (own.get("splits") or {}).get(split, part.fingerprint)
        if name == own.get("name") and seen != part.fingerprint:
            print(
                f"warning: these {split} images of {name} are not those that the run saw "
                f"(fingerprint {part.fingerprint}, the run's {seen}).",
                file=sys.stderr,
            )
        names = loaded.class_names or own.get("class_names")
        said |= {"class_names": list(names)} if names else {}
        said["fingerprint"] = loaded.fingerprint()
        said["splits"] = {split: part.fingerprint}
        return loaded, said


def _images_of(model: Any) -> dict[str, Any]:
    """Of the images that a model takes size, channels and more, where it tells them."""
    from robust_tf.evaluation.defended import image_shape_of

    told = dict(getattr(model, "pictures", {}))
    shape = image_shape_of(model)
    if shape is None or len(shape) != 3 or None in shape:
        return told
    return {**told, "image_size": list(shape[:2]), "channels": shape[2]}
