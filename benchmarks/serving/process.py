"""A server in a process of its own, and what it takes of the machine."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import final

_TICKS = os.sysconf("SC_CLK_TCK")


@final
class ServerProcess:
    """Started by a command that prints a JSON object with the `url` on stdout when it answers."""

    def __init__(self, command: Sequence[str], *, threads: int):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        told = ""
        while not told.rstrip().endswith("}"):
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"the server did not start: {' '.join(command)}")
            told += line
        self.url = json.loads(told)["url"].removesuffix("/v1")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()


@final
class Peak:
    """The largest resident memory of a server while the block runs."""

    def __init__(self, server: ServerProcess):
        self._server, self.bytes = server, server.resident_bytes()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.05):
            self.bytes = max(self.bytes, self._server.resident_bytes())
