"""A folder with everything that a user may point a command at by mistake."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import keras
import numpy as np

from robust_tf import models


class Foreign(keras.layers.Layer):
    """A layer of somebody's own that no file can tell how to make."""

    def call(self, inputs):
        return inputs


def dense(units: int = 10, shape=(28, 28, 1), extra=()) -> keras.Model:
    """Images to logits, in Keras' own layers."""
    layers = [keras.Input(shape), *extra, keras.layers.Flatten(), keras.layers.Dense(units)]
    return keras.Sequential(layers)


def make(folder: Path) -> None:
    """Writes all files and folders that the command lines of `command_lines` name."""
    _models(folder)
    _runs(folder)
    _recipes(folder)
    _pictures(folder)
    for name in ("mine.json", "mine.html", "mine.png", "mine.txt", "mine.svg", "mine.md"):
        (folder / name).write_text("precious")
    (folder / "full").mkdir()
    (folder / "full" / "thesis.txt").write_text("precious")
    (folder / "half.json").write_text('{"evaluation": {"natural"')
    (folder / "list.json").write_text("[1, 2]")
    (folder / "other.json").write_text(json.dumps({"evaluation": {}, "run_dir": "nowhere"}))
    (folder / "marks.md").write_text("<!-- table: nowhere.json -->\n<!-- end -->\n")
    (folder / "open.md").write_text("<!-- table: other.json -->\n")
    (folder / "fails.py").write_text("raise RuntimeError('on its way')\n")
    (folder / "odd.py").write_text(
        "number = 3\ndef fails():\n    raise KeyError('gone')\ndef none():\n    return None\n"
    )


def _models(folder: Path) -> None:
    dense().save(folder / "good.keras")
    models.split(dense()).save(folder / "split.keras")
    dense(3).save(folder / "few.keras")
    dense(shape=(32, 32, 3)).save(folder / "color.keras")
    image = keras.Input((28, 28, 1))
    flat = keras.layers.Flatten()(image)
    keras.Model(image, [keras.layers.Dense(10)(flat), keras.layers.Dense(2)(flat)]).save(
        folder / "two.keras"
    )
    keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(10, 3)]).save(
        folder / "map.keras"
    )
    other = keras.Input((4,))
    keras.Model(
        [image, other], keras.layers.Dense(10)(keras.layers.Concatenate()([flat, other]))
    ).save(folder / "pair.keras")
    dense(extra=[Foreign()]).save(folder / "foreign.keras")
    keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Lambda(lambda x: x),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    ).save(folder / "lambda.keras")
    whole = (folder / "good.keras").read_bytes()
    (folder / "cut.keras").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.keras").write_bytes(b"")
    (folder / "text.keras").write_text("hello")
    with zipfile.ZipFile(folder / "zip.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    (folder / "folder.keras").mkdir()
    dense().save(folder / "old.h5")
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").write_bytes(b"\x00\x01")
    (folder / "with space ü").mkdir()
    (folder / "evil.pt").write_bytes(pickle.dumps({"model": Path("x"), "f": print}))
    (folder / "noise.pt").write_bytes(b"\x80\x04noise")
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "noise.safetensors").write_bytes(b"\xff" * 64)
    header = json.dumps(
        {"conv.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    ).encode()
    (folder / "small.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + np.zeros(4, "<f4").tobytes()
    )


def _runs(folder: Path) -> None:
    for name in ("no_run", "begun", "damaged", "taken"):
        (folder / name).mkdir()
    (folder / "no_run" / "photo.png").write_bytes(b"")
    (folder / "begun" / "identity.json").write_text(json.dumps({"identity": "a"}))
    (folder / "damaged" / "identity.json").write_text(json.dumps({"identity": "a"}))
    (folder / "damaged" / "summary.json").write_text("{")
    (folder / "taken" / "identity.json").write_text(json.dumps({"identity": "another run"}))


def _recipes(folder: Path) -> None:
    texts = {
        "unknown": "include 'adr_digits.gin'\nPDG.eps = 0.1\n",
        "parameter": "include 'adr_digits.gin'\nPGD.epsilon = 0.1\n",
        "syntax": "include 'adr_digits.gin'\nPGD.eps = \n",
        "bracket": "include 'adr_digits.gin'\ntrain.method = (@ADR\n",
        "string": "include 'adr_digits.gin'\ntrain.epochs = 'many'\n",
        "loop": "include 'loop.gin'\n",
        "lost": "include 'nowhere.gin'\n",
        "macro": "include 'adr_digits.gin'\nPGD.eps = %radius\n",
        "imports": "import not_there\n",
        "fails": "import fails\n",
        "prose": "Dear editor,\nI hope this finds you well.\n",
        "no_attacks": "battery.attacks = []\n",
        "battery": "battery.attacks = 3\n",
        "no_rows": "Study.title = 'Mine'\n",
        "study": "import robust_tf.studies\nStudy.rows = [3]\n",
    }
    for name, text in texts.items():
        (folder / f"{name}.gin").write_text(text)
    (folder / "empty.gin").write_text("")
    (folder / "binary.gin").write_bytes(b"\xff\xfe\x00train")
    (folder / "folder.gin").mkdir()


def _pictures(folder: Path) -> None:
    for name in ("pictures_none", "pictures_one/cat", "pictures_broken/cat", "pictures_broken/dog"):
        (folder / name).mkdir(parents=True)
    (folder / "pictures_one" / "cat" / "a.png").write_bytes(b"not a picture")
    for kind in ("cat", "dog"):
        (folder / "pictures_broken" / kind / "a.png").write_bytes(b"not a picture")
    (folder / "table.csv").write_text("path,label\nnowhere.png,cat\n")
    np.savez(folder / "arrays.npz", x=np.zeros((2, 8, 8)), y=np.zeros(3))
