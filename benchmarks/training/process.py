"""The other end of `worker.py`: start a system in a process of its own, and ask it."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, final

HERE = Path(__file__).resolve().parent


@final
class Worker:
    """A running system. Its answers are JSON objects; `hello` is the first.

    Raises `SystemExit` with the last lines of what it wrote when it ends before it should.
    """

    def __init__(self, script: str, *, python: str, size: str, threads: int, source: Path | None):
        self.script = script
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (`close` closes it)
        place = ["--source", str(source.resolve())] if source else []
        self.process = subprocess.Popen(
            [python, str(HERE / script), "--size", size, "--threads", str(threads), *place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | _environment(threads),
        )
        self.hello = self._answer()

    def ask(self, request: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(request, file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        wrote = self.errors.read()[-3000:]
        sys.exit(
            f"{wrote}\n{self.script} ended with {self.process.returncode}. If a package is missing: "
            "--python must be an interpreter that has what the other systems need (README.md)"
        )


def _environment(threads: int) -> dict[str, str]:
    """A process that waits must not spin while another has its turn; nothing is fetched; no accelerator."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
