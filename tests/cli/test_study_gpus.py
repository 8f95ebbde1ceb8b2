"""Which engine a study's trials get on a machine with GPUs, by a pretended number of them."""

from pathlib import Path
from typing import Any

import pytest

from trimask import devices
from trimask.cli import study
from trimask.parallel import Local, Ray
from trimask.studies.catalog import resolve_study


def engine(**given: Any) -> Any:
    name = given.pop("study", "horizon")
    verb = study.Study(action="run", study=name, out=Path("x"), **given)
    return verb._engine(resolve_study(name, is_short=True))


def test_one_trial_for_each_gpu_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda: 4)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert engine() == Local(workers=4, num_gpus=4)
    assert engine(workers=6) == Local(workers=6, num_gpus=4)
    assert engine(engine="ray") == Ray(workers=4, on_gpus=True)
    for name in ("coordinate_check", "sampling"):  # their trials are on the CPU
        assert engine(study=name) == Local(workers=16, num_gpus=0)
        assert engine(study=name, engine="ray") == Ray(workers=16, on_gpus=False)
    monkeypatch.setattr(devices, "count_gpus", lambda: 0)
    assert engine() == Local(workers=16, num_gpus=0)
