"""Compiled blocks: code is made once for all lengths of documents, and computes the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trimask.model.attention import QKNorm
from trimask.model.recompute import Recompute

SCRIPT = Path(__file__).parent / "compiled_blocks.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recompute", "qk_norm"), [*((each, QKNorm.RMS) for each in Recompute), (Recompute.NONE, QKNorm.NONE)]
)
def test_code_is_made_once_for_all_lengths(recompute: Recompute, qk_norm: QKNorm) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), recompute.value, qk_norm.value],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == {"graphs": [1, 2, 3, 4, 5], "breaks": 0}
