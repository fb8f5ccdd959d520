"""A recipe that has been read: its data, its model, its training."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import gin
import tensorflow as tf

from robust_tf import data as datasets
from robust_tf import methods, training
from robust_tf.recipes import gin_errors, reading
from robust_tf.training.distribution import distribute
from robust_tf.training.recipe import check_dataset


class LoadedRecipe:
    """What the files and parameters of a recipe bind, ready to be built.

    Several can be used side by side: each builds under its own bindings, whatever has been loaded
    since.

    Args:
      files: names of recipes or paths, later ones over earlier ones.
      params: bindings over all of them, such as `train.epochs=2`.
      imports: modules of the user's that the recipe needs and does not import, by name or path.

    Attributes:
      name: of the first file.
      text: all bindings as gin text; a run is continued only under the same.
      settings: what `train` binds.

    Raises:
      ConfigurationError: what is wrong, where, and the nearest right name.
    """

    def __init__(
        self, files: Sequence[str], params: Sequence[str] = (), imports: Sequence[str] = ()
    ):
        self.files, self.params, self.imports = tuple(files), tuple(params), tuple(imports)
        names = reading.import_modules(self.imports, self.files)
        self.name = os.path.splitext(os.path.basename(self.files[0]))[0]
        self.bindings = reading.parse(self.files, self.params)
        self._compared: list[Any] = []
        with self._building():
            self.settings = training.Recipe()
            if self.settings.compare_with:
                named = gin.query_parameter("train.compare_with")
                self._compared = list(named) if isinstance(named, (list, tuple)) else [named]
        if self._compared:  # a run is the same run, compared or not
            self.bindings = reading.parse(self.files, [*self.params, "train.compare_with = None"])
            with self._building():
                self.settings = training.Recipe()
        self.text = self.bindings.text()
        self.bindings.add_imports(names)
        self._data: datasets.Data | None = None

    def __repr__(self) -> str:
        return f"<recipe {self.name}: {self.settings.epochs} epochs>"

    def data(self, data_dir: str | None = None) -> datasets.Data:
        """The dataset of the recipe, with the additional examples that it asks for.

        Args:
          data_dir: folder of prepared tfds datasets; None: that of the last call, or TFDS_DATA_DIR.

        Raises:
          DataError: it cannot be read.
          ConfigurationError: a setting outside its range.
        """
        if self._data is not None and not data_dir:
            return self._data
        arguments: dict[str, Any] = {"data_dir": data_dir} if data_dir else {}
        with self._building():
            dataset = datasets.load(**arguments)
            if self.settings.extra is not None:
                dataset = self.settings.extra(dataset, **arguments)
        self._data = dataset
        return dataset

    def model(
        self,
        data: datasets.Data | None = None,
        strategy: tf.distribute.Strategy | None = None,
    ) -> methods.RobustModel:
        """The compiled model, with weights drawn from the recipe's seed; `fit` trains it.

        Args:
          data: whose shape and classes it has; None: the recipe's own.
          strategy: under which it is built; None: that in force.

        Raises:
          ConfigurationError: a setting outside its range, data that cannot be trained on.
        """
        data, strategy = data or self.data(), strategy or tf.distribute.get_strategy()
        size = self.settings.batch_size
        with self._building():
            check_dataset(data)
            distribute(strategy, lambda shard: _batches(data, size, shard), size)
            return self.settings.build(data, strategy)

    def trainer(
        self,
        run_dir: str | os.PathLike[str],
        data: datasets.Data | None = None,
        strategy: tf.distribute.Strategy | None = None,
        restart: bool = False,
    ) -> training.Trainer:
        """A trainer in its run folder, where it continues what is there.

        Args:
          run_dir: made if absent; may be a bucket.
          data: to train on; None: the recipe's own.
          strategy: under which; None: that in force.
          restart: deletes what an earlier run wrote in the folder; other files stay.

        Raises:
          RunFolderError: the folder cannot be written, or holds another run.
          ConfigurationError: a setting outside its range.
        """
        data = data or self.data()
        strategy = strategy or tf.distribute.get_strategy()
        with self._building():
            return _Trainer(self, data, os.fspath(run_dir), strategy, restart)

    def train(
        self,
        run_dir: str | os.PathLike[str],
        data: datasets.Data | None = None,
        strategy: tf.distribute.Strategy | None = None,
        restart: bool = False,
    ) -> dict[str, Any]:
        """Trains in a run folder, or continues there, evaluates, and gives the run's summary.

        Args:
          run_dir: as of `trainer`.
          data: as of `trainer`.
          strategy: as of `trainer`.
          restart: as of `trainer`.

        Raises:
          NonFiniteLossError: training met a loss that is not a number.
          RunFolderError, CheckpointError, ConfigurationError: see `trainer`.
        """
        return self.trainer(run_dir, data, strategy, restart).train()

    def comparisons(self) -> dict[str, LoadedRecipe]:
        """By its name, this recipe with each method that `train.compare_with` names."""
        made = {}
        for method in self._compared:
            params = [*self.params, "train.compare_with = None", f"train.method = {method!r}"]
            name = str(method).lstrip("@").replace("/", "_")
            made[name] = LoadedRecipe(self.files, params, self.imports)
        return made

    def without_effect(self) -> list[str]:
        """The parameters that nothing has read, once the model is built: misspellings, perhaps."""
        return reading.without_effect(self.bindings.used(), self.params)

    @contextlib.contextmanager
    def _building(self) -> Iterator[None]:
        """Gin has the recipe's bindings, and errors of constructors are readable."""
        with self.bindings.in_force(), gin_errors.readable():
            yield


class _Trainer(training.Trainer):
    """A trainer that evaluates, too, under the bindings of its recipe."""

    def __init__(
        self,
        loaded: LoadedRecipe,
        data: datasets.Data,
        run_dir: str,
        strategy: tf.distribute.Strategy,
        restart: bool,
    ):
        self._loaded = loaded
        super().__init__(loaded.settings, data, run_dir, strategy, loaded.text, restart)

    def train(self) -> dict[str, Any]:
        with self._loaded.bindings.in_force():
            return super().train()


def _batches(data: datasets.Data, size: int, shard: tuple[int, int]) -> tf.data.Dataset:
    return datasets.batches(data.train, size, training=True, shard=shard)
