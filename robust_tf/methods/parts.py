"""Gradient accumulation: a replica's share of a batch in parts, one after the other, in one graph.

What is done with a part is traced once, and repeated by a loop of the graph; so a step needs the
memory of one part, beside the images of the whole batch, what is kept of each example, and one sum
of gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from robust_tf.draws import part_of_batch
from robust_tf.methods.reduction import rows_of_share


class Parts(NamedTuple):
    """How the examples of a share are cut: all parts are as large, but for the last.

    known: number of examples if the graph knows it, else None; total: the same, int32, >= 1; size:
    int32, of a part but the last.
    """

    known: int | None
    total: tf.Tensor
    size: tf.Tensor

    @classmethod
    def of(cls, x: tf.Tensor, number: int) -> Parts:
        """Of examples (B, ...), in so many parts, or as many as there are examples."""
        total = tf.shape(x)[0]
        return cls(x.shape[0], total, total if number == 1 else -(-total // number))

    def run(
        self,
        work: Callable[..., tuple[Any, list[tf.Tensor | None]]],
        examples: Any,
        xla: bool = False,
    ) -> tuple[Any, list[tf.Tensor | None]]:
        """Does the work on each part.

        Args:
          work: (examples of a part, its share of all in (0, 1]) -> (a structure of tensors of its
            examples, tensors of which the sum over the parts is wanted). Its random numbers are
            those of the whole batch (`robust_tf.draws`), and so are its sample weights.
          examples: structure of tensors (B, ...), scalars and None.
          xla: compile what is done with a part; there may be parts of two sizes.

        Returns:
          The structure, of all examples in their order; what is of no example, such as a seed, as
          the last part gave it; and the sums.
        """
        leaves = tf.nest.flatten(examples)
        rows = {id(leaf): leaf for leaf in leaves if self._is_cut(leaf)}
        whole = self.size is self.total

        def of_part(first: tf.Tensor, *cut: tf.Tensor) -> Any:
            mine = dict(zip(rows, cut, strict=True))
            part = tf.nest.pack_sequence_as(examples, [mine.get(id(o), o) for o in leaves])
            with contextlib.ExitStack() as within:
                share: Any = 1.0
                if not whole:
                    here = tf.shape(cut[0])[0]
                    share = tf.cast(here, tf.float32) / tf.cast(self.total, tf.float32)
                    within.enter_context(part_of_batch(first, here, self.total))
                    within.enter_context(rows_of_share(first, here))
                made, sums = work(part, share)
                # What an embedding gets is sparse, and cannot be added to a sum.
                return made, [None if one is None else tf.convert_to_tensor(one) for one in sums]

        specs = [tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype) for leaf in rows.values()]
        graph = tf.function(of_part, autograph=False, jit_compile=xla or None)
        traced = graph.get_concrete_function(tf.TensorSpec([], tf.int32), *specs)
        if whole:
            return traced(tf.constant(0), *rows.values())
        return self._repeat(traced, list(rows.values()))

    def _repeat(self, traced: Any, rows: list[tf.Tensor]) -> Any:
        """Calls the graph of a part for each, puts examples together, and adds sums."""
        made, sums = traced.structured_outputs
        specs = [spec for spec in tf.nest.flatten(made) if spec is not None]
        added = [spec for spec in tf.nest.flatten(sums) if spec is not None]
        count = -(-self.total // self.size)
        state = [_begin(spec, count) for spec in specs]
        state += [tf.zeros(spec.shape, spec.dtype) for spec in added]

        def body(index: tf.Tensor, held: list[Any]) -> Any:
            first = index * self.size
            last = tf.minimum(first + self.size, self.total)
            outputs = traced(first, *[row[first:last] for row in rows])
            found = [value for value in tf.nest.flatten(outputs) if value is not None]
            after = []
            for place, (old, value) in enumerate(zip(held, found, strict=True)):
                if isinstance(old, tf.TensorArray):
                    after.append(old.write(index, value))
                else:
                    after.append(value if place < len(specs) else old + value)
            return index + 1, after

        # One after the other: two parts at once would need the memory of two.
        _, state = tf.while_loop(
            lambda index, _: index < count, body, (tf.constant(0), state), parallel_iterations=1
        )
        values = iter(
            tf.ensure_shape(value.concat(), spec.shape)
            if isinstance(value, tf.TensorArray)
            else value
            for value, spec in zip(state, [*specs, *added], strict=True)
        )
        flat = [None if spec is None else next(values) for spec in tf.nest.flatten((made, sums))]
        return tf.nest.pack_sequence_as((made, sums), flat)

    def _is_cut(self, leaf: Any) -> bool:
        """Whether it has a row for each example."""
        return tf.is_tensor(leaf) and leaf.shape.rank != 0 and leaf.shape[0] in (None, self.known)


def _begin(spec: Any, count: tf.Tensor) -> Any:
    """What holds an output of so many parts: in their graph the number of rows is not known."""
    if spec.shape.rank == 0 or spec.shape[0] is not None:
        return tf.zeros(spec.shape, spec.dtype)
    shape = tf.TensorShape([None]).concatenate(spec.shape[1:])
    return tf.TensorArray(spec.dtype, count, infer_shape=False, element_shape=shape)
