"""Where examples run: a folder with what they name, and registries that forget their modules."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import gin
import keras
import pytest

from robust_tf.figures import kinds
from tests.docs import small
from tests.docs.pages import CLONE


def prepare(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Makes a folder with the recipes and a few pictures the current one; trainings are small."""
    (folder / "gin").symlink_to(CLONE / "gin")
    small.write_photos(folder)
    small.put(patch)
    patch.chdir(folder)
    patch.setenv("HOME", str(folder))
    patch.syspath_prepend(str(folder))


@contextlib.contextmanager
def own_modules(names: Iterable[str] = ()) -> Iterator[None]:
    """Modules of these names are unknown before, and all that is registered is forgotten after."""
    loaded = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    objects = keras.saving.get_custom_objects()
    custom = dict(objects)
    registry = gin.selector_map.SelectorMap()
    for selector, entry in gin.config._REGISTRY.items():
        if selector.partition(".")[0] not in names:
            registry[selector] = entry
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gin.config, "_REGISTRY", registry)
        patch.setattr(gin.config, "_INVERSE_REGISTRY", dict(gin.config._INVERSE_REGISTRY))
        patch.setattr(kinds, "REGISTERED", dict(kinds.REGISTERED))
        try:
            yield
        finally:
            for name in names:
                sys.modules.pop(name, None)
            sys.modules.update(loaded)
            objects.clear()
            objects.update(custom)
