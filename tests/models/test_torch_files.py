"""Files of PyTorch weights: both formats of torch.save, safetensors, and what is refused."""

import argparse
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from robust_tf import files
from robust_tf.models import torch_files

STATE = {
    "a.weight": torch.arange(6.0).reshape(2, 3).t(),  # not contiguous
    "a.bias": torch.tensor([0.1, -2.5, 3e-5]).bfloat16(),
    "b.weight": torch.tensor([1.5, 2.25]).half(),
    "c.num_batches_tracked": torch.tensor(7),
}
PLAIN = {
    "state_dict": STATE,
    "epoch": 3,
    "accuracy": np.float64(0.5),
    "last": np.array([0.25], "float32")[0],
    "args": argparse.Namespace(lr=0.1, name="wrn"),
}


def save(content, path, form):
    torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    return path


def values(one):
    return one.float().numpy() if hasattr(one, "float") else np.asarray(one, "float32")


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_both_formats_of_torch_save(tmp_path, form):
    """Numbers of NumPy and arguments beside the weights are plain; the name does not matter."""
    read = torch_files.read(save(PLAIN, tmp_path / "file.tar", form))
    assert list(read["state_dict"]) == list(STATE)
    for name, tensor in STATE.items():
        np.testing.assert_array_equal(values(read["state_dict"][name]), values(tensor))
    assert (read["accuracy"], read["last"], read["args"].name) == (0.5, 0.25, "wrn")


def test_safetensors_without_torch(tmp_path, monkeypatch):
    state = {name: tensor.contiguous() for name, tensor in STATE.items()}
    safetensors.torch.save_file(state, tmp_path / "file", metadata={"format": "pt"})
    monkeypatch.setitem(sys.modules, "torch", None)
    read = torch_files.read(tmp_path / "file")
    assert set(read) == set(state) and len(read) == 4
    for name, tensor in state.items():
        np.testing.assert_array_equal(np.asarray(read[name], "float32"), values(tensor))
    assert read["c.num_batches_tracked"].dtype == np.int64


@pytest.mark.parametrize(("form", "extra"), [("zip", "torch"), ("safetensors", "safetensors")])
def test_package_missing(tmp_path, monkeypatch, form, extra):
    path = tmp_path / "weights.pt"
    if form == "zip":
        save(STATE, path, form)
    else:
        safetensors.torch.save_file({"a.weight": torch.ones(2)}, path)
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(ImportError, match=rf"weights.pt .*pip install 'robust_tf\[{extra}\]'"):
        torch_files.read(path)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [0.3, 0.98])
def test_truncated(tmp_path, form, kept):
    path = tmp_path / "weights"
    if form == "safetensors":
        safetensors.torch.save_file({"a.weight": torch.ones(200)}, path)
    else:
        save({"a.weight": torch.ones(200), "b.weight": torch.ones(200)}, path, form)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"weights .*truncated.* get it again\.$"):
        torch_files.read(path)


class Code:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (os.mkdir, (self.mark,))


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("place", ["beside", "whole"])
def test_code_is_refused_and_not_run(tmp_path, form, place):
    mark, path = tmp_path / "mark", tmp_path / "weights.pt"
    content = {"state_dict": STATE, "args": Code(mark)} if place == "beside" else Code(mark)
    if form == "pickle":
        path.write_bytes(pickle.dumps(Code(mark), protocol=2))
    else:
        save(content, path, form)
    with pytest.raises(ValueError, match=r"weights.pt is refused: it holds \w+.mkdir beside"):
        torch_files.read(path)
    assert not mark.exists()
    # The same file does run code where it is read as pickles are.
    if form != "pickle":
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert mark.exists()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_whole_module_is_refused(tmp_path, form):
    path = save(torch.nn.Linear(2, 2), tmp_path / "weights.pt", form)
    with pytest.raises(ValueError, match=r"holds torch.nn.modules.linear.Linear beside plain w"):
        torch_files.read(path)


def _script(path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))


def _zip(*names):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "{}")

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b""), "begins like neither"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00v\x00{"), "begins like neither"),
        (lambda path: path.write_text("<!DOCTYPE html> <title>Quota"), "begins like neither"),
        (
            lambda path: path.write_bytes(pickle.dumps([1, 2], protocol=2)),
            "cannot be read: truncated, or no file of torch.save",
        ),
        (lambda path: save([torch.ones(2)], path, "zip"), "holds a list, and no weights"),
        (lambda path: save(torch.ones(2), path, "legacy"), "holds a Tensor, and no weights"),
        (_zip("config.json", "model.weights.h5"), "is a Keras file; keras.models.load_model reads"),
        (_zip("archive/constants.pkl", "archive/data.pkl"), "is a TorchScript program"),
        (_zip("word/document.xml"), "is a zip file, and not one of torch.save"),
    ],
)
def test_something_else(tmp_path, write, message):
    write(tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=message):
        torch_files.read(tmp_path / "weights.pt")


def test_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none.pt"):
        with pytest.raises(files.FileError, match="there is no file .*; give a .safetensors"):
            torch_files.read(path)


def test_other_dtypes_of_safetensors(tmp_path):
    state = {"a.weight": torch.ones(2).to(torch.float8_e4m3fn)}
    safetensors.torch.save_file(state, tmp_path / "weights")
    with pytest.raises(ValueError, match="a.weight is of dtype F8_E4M3; save the weights as f"):
        torch_files.read(tmp_path / "weights")["a.weight"]


def test_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert torch_files.sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea")  # FIPS 180-2
