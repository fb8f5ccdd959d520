"""`ImageFolder`: pictures in one folder for each class."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from robust_tf import files, registration
from robust_tf.data.errors import DataError, counted, listed
from robust_tf.data.labels import checked_names
from robust_tf.data.parts import Parts
from robust_tf.data.picture_files import Format, look_at
from robust_tf.data.picture_headers import EXTENSIONS, OTHER_EXTENSIONS
from robust_tf.data.splits import Split
from robust_tf.data.streamed import StreamedSplit

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@registration.configurable
@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """Pictures, one folder for each class: `directory/CLASS/...`, or `directory/train/CLASS/...`.

    With a folder `train` (or `training`), those beside it called `val`, `valid` or `validation`,
    and `test` or `testing`, are the other splits; what is missing is taken from the training images
    (`data.validation_size`, `data.test_size`). Without one, every folder is a class.

    Pictures are JPEG, PNG, BMP or GIF (the first frame), in folders of any depth within the class.
    They are ordered by the names of their files, whatever their class; classes by their names.

    Args:
      directory: the folder, which must be given; may be in a bucket.
      image_size: (height, width), or one number for both, >= 1; None: the pictures' own size, if
        all have the same; 'auto': that, if no side is longer than 64 pixels, else a square with the
        median of their longer sides, at most 64.
      resize: of pictures of another size: 'pad' (the whole picture in its proportions, on black),
        'crop' (the middle, as much as fills the size) or 'stretch' (its proportions changed).
      channels: 3 (color) or 1 (gray); None: 1 if all pictures are gray, else 3.
      classes: names of the classes in the order of their labels; None: the folders', sorted.

    Raises:
      ValueError: a value outside its range.
    """

    directory: str = ""
    image_size: int | tuple[int, int] | str | None = None
    resize: str = "pad"
    channels: int | None = None
    classes: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Checks the fields."""
        if not isinstance(self.directory, (str, os.PathLike)) or not os.fspath(self.directory):
            raise ValueError(
                f"ImageFolder(directory={self.directory!r}): must be the path of a folder that "
                "holds a folder of pictures for each class, ImageFolder.directory = 'photos'."
            )
        object.__setattr__(self, "directory", os.fspath(self.directory))
        self._format()
        if self.classes is not None:
            object.__setattr__(self, "classes", checked_names("ImageFolder", self.classes))

    def _format(self) -> Format:
        return Format("ImageFolder", self.image_size, self.resize, self.channels)

    def read(self, data_dir: str | None = None) -> Parts:
        """Lists the pictures and looks at the beginning of each.

        Args:
          data_dir: not used; the folder is `directory`.

        Raises:
          DataError: no such folder, no pictures, a class that is no training class, files that are
            no pictures: names each.
        """
        root = os.path.expanduser(self.directory)
        if not files.is_folder(root):
            what = "is a file" if files.exists(root) else "does not exist"
            where = "" if os.path.isabs(root) or "://" in root else f" in {os.getcwd()}"
            raise DataError(
                f"ImageFolder(directory={self.directory!r}): {what}{where}; it should be a folder "
                "with a folder of pictures for each class."
            )
        notes: list[str] = []
        places = _split_folders(root)
        found: dict[str, dict[str, list[str]]] = {
            which: _classes(place, notes) for which, place in places.items()
        }
        names = list(self.classes or sorted(found["train"]))
        _check_classes(found, names, root)
        entries = [  # by split, then by the files' names
            (which, kind, name)
            for which, held in found.items()
            for _, kind, name in sorted(
                (name.rpartition("/")[2], kind, name) for kind in held for name in held[kind]
            )
        ]
        paths = [os.path.join(places[which], kind, name) for which, kind, name in entries]
        pictures = look_at(paths, ["/".join(entry) for entry in entries], self._format())
        splits: dict[str, Split | None] = dict.fromkeys(_SPLITS)
        for which in found:
            numbers = np.flatnonzero([one == which for one, _, _ in entries])
            labels = np.array([names.index(entries[number][1]) for number in numbers], np.int32)
            splits[which] = StreamedSplit(pictures.reader, labels, numbers)
        train = splits["train"]
        assert train is not None
        return Parts(
            os.path.basename(os.path.abspath(root)) if "://" not in root else root,
            train,
            splits["validation"],
            splits["test"],
            num_classes=len(names),
            class_names=tuple(names),
            description=pictures.description,
            notes=notes + pictures.notes,
        )


def _split_folders(root: str) -> dict[str, str]:
    """The folder of each split that there is."""
    inside = _folders(root)
    by_name = {name.lower(): name for name in inside}
    found: dict[str, str] = {}
    for which, known in _SPLITS.items():
        for name in known:
            if name in by_name and _folders(os.path.join(root, by_name[name])):
                found.setdefault(which, os.path.join(root, by_name[name]))
    return found if "train" in found else {"train": root}


def _entries(folder: str) -> list[str]:
    """Names in a folder, '/' after those of folders, sorted."""
    try:
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]
        return sorted(
            f"{name}/" if tf.io.gfile.isdir(os.path.join(folder, name)) else name for name in names
        )
    except (tf.errors.OpError, OSError) as error:
        raise DataError(f"{folder} cannot be read: {files.reason(error)}.") from error


def _folders(folder: str) -> list[str]:
    return [
        name.rstrip("/")
        for name in _entries(folder)
        if name.endswith("/") and not name.startswith(".")
    ]


def _classes(folder: str, notes: list[str]) -> dict[str, list[str]]:
    """The files of each class, relative to its folder; what is left out is added to the notes."""
    loose = [name for name in _entries(folder) if not name.endswith("/") and _is_picture(name)]
    if loose:
        notes.append(
            f"{counted(len(loose), 'picture')} in {folder} itself, in no folder of a class, "
            f"left out: {loose[0]}."
        )
    found: dict[str, list[str]] = {}
    others: list[str] = []
    hidden: list[str] = []
    empty: list[str] = []
    for kind in _folders(folder):
        place = os.path.join(folder, kind)
        pictures = _pictures(place, "", others, hidden)
        if pictures:
            found[kind] = pictures
        else:
            empty.append(place)
    for names, what, plural in (
        (hidden, "hidden file is", "hidden files are"),
        (others, "file not named as a picture is", "files not named as pictures are"),
        (empty, "folder without pictures is", "folders without pictures are"),
    ):
        if names:
            notes.append(f"{counted(len(names), what, plural)} left out: {names[0]}.")
    return found


def _pictures(place: str, below: str, others: list[str], hidden: list[str]) -> list[str]:
    """Files in a class's folder that are named as pictures are."""
    found = []
    for name in _entries(os.path.join(place, below)):
        path = f"{below}{name}"
        if name.startswith("."):
            hidden.append(os.path.join(place, path))
        elif name.endswith("/"):
            found += _pictures(place, path, others, hidden)
        elif _is_picture(name):
            found.append(path)
        else:
            others.append(os.path.join(place, path))
    return found


def _is_picture(name: str) -> bool:
    """By its name; those that no version of TensorFlow reads too, so that they are refused."""
    return name.lower().endswith(EXTENSIONS + OTHER_EXTENSIONS) and not name.startswith(".")


def _check_classes(found: dict[str, dict[str, list[str]]], names: list[str], root: str) -> None:
    """Raises DataError for folders that are no classes to learn."""
    if not found["train"]:
        raise DataError(
            f"{root} holds no pictures in folders: make one folder for each class in it (or in "
            f"its folder train), and put the pictures there ({', '.join(EXTENSIONS)})."
        )
    for which, held in found.items():
        unknown = sorted(set(held) - set(names))
        if unknown:
            raise DataError(
                f"{root}: {counted(len(unknown), 'folder')} in {which} "
                f"{'is no class' if len(unknown) == 1 else 'are no classes'} of the training "
                f"images:\n{listed(unknown)}\nThe classes are {', '.join(names[:10])}"
                f"{', ...' if len(names) > 10 else ''}."
            )
    if len(names) < 2:
        raise DataError(
            f"{root} has one class, {names[0]}; a classifier needs two folders of classes or more."
        )
