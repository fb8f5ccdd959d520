"""What the tests of this folder share."""

import pytest

from robust_tf.training.reporting import Reporter
from tests.training.runs import Stopped


@pytest.fixture
def stop_after(monkeypatch):
    """Makes the trainer stop at its nth call of a method of the reporter."""

    def arrange(method: str, call: int) -> None:
        original, count = getattr(Reporter, method), iter(range(1, 10**6))

        def stopping(self, *args, **kwargs):
            original(self, *args, **kwargs)
            if next(count) == call:
                monkeypatch.setattr(Reporter, method, original)
                raise Stopped

        monkeypatch.setattr(Reporter, method, stopping)

    return arrange
