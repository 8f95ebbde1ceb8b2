"""The benchmark of speech: seconds of computing per second of sound."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.sampling import real_time


class Half:
    """Says half a second for each sentence, and lets the clock go on by two."""

    now = 0.0

    def generate(self, task: str, prompt: str, *, seed: int) -> Any:
        assert task == "text_to_speech" and prompt in real_time.SENTENCES
        self.now += 2.0
        return np.zeros(8000, dtype=np.float32), 16_000


def test_seconds_of_computing_are_divided_by_those_of_speech(monkeypatch: pytest.MonkeyPatch):
    model = Half()
    monkeypatch.setattr(real_time, "time", SimpleNamespace(process_time=lambda: model.now))
    assert real_time.measure(model, 0) == 4.0


def test_spreads_are_of_the_rounds():
    assert real_time.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
