"""Where the tests of this folder find real data, and what they must leave alone."""

import os
import pathlib
import warnings

import pytest

_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def real_folder(name: str) -> str:
    places = [os.environ.get("TFDS_DATA_DIR"), str(_REPOSITORY.parent / "shared" / "tfds")]
    for place in filter(None, places):
        if os.path.isdir(os.path.join(place, name)):
            return place
    message = f"REAL DATA NOT TESTED: no {name} in TFDS_DATA_DIR or in ../shared/tfds"
    warnings.warn(message, stacklevel=2)
    pytest.skip(message)


def published(name: str) -> str:
    """A file of weights that others trained and published."""
    tfds = os.environ.get("TFDS_DATA_DIR")
    for folder in filter(None, [tfds and os.path.dirname(tfds), _REPOSITORY.parent / "shared"]):
        path = os.path.join(folder, "published", name)
        if os.path.isfile(path):
            return path
    message = f"PUBLISHED WEIGHTS NOT TESTED: no {name} in ../shared/published"
    warnings.warn(message, stacklevel=2)
    pytest.skip(message)


def snapshot(folder: str) -> dict:
    return {p: p.stat().st_mtime_ns for p in pathlib.Path(folder).rglob("*")}
