"""An attack that kills its process, once: the file that it marks this by must not be there."""

import dataclasses
import os
import signal

import tensorflow as tf

from robust_tf import attacks, registration


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Fatal(attacks.Attack):
    """Brightens; kills the process that first gets to its second batch."""

    eps: float = 0.1
    mark: str = ""
    black_box = True

    def run(self, network, x, y, seed, budget):
        def strike():
            if not os.path.exists(f"{self.mark}.1"):
                open(f"{self.mark}.1", "w").close()
            elif not os.path.exists(f"{self.mark}.2"):
                open(f"{self.mark}.2", "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return 0.0

        nothing = tf.py_function(strike, [], tf.float32)
        return tf.clip_by_value(x + 0.5 * self.eps + nothing, 0.0, 1.0)
