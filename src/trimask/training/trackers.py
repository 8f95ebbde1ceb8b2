"""Show a run's metrics in TensorBoard, Weights & Biases, trackio, MLflow, or a tracker of your own.

The run's own record is `metrics.jsonl` (`tracker.py`), always. A tracker gets its rows in its own thread: one
that is slow, fails or hangs neither stops a run nor changes it. It is chosen when a run is started or
resumed, and is no part of the run's configuration.
"""

import contextlib
import importlib
import json
import logging
import os
import queue
import sys
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, final

from trimask import io, modules
from trimask.errors import UserError

logger = logging.getLogger(__name__)

IDS = "trackers.json"
"""A run's file of the names by which trackers know it, so that a resumed run goes on under the same ones."""
_PROJECT = "trimask"
_PATIENCE = 30.0  # seconds that a tracker has to end


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedRun:
    """What a tracker is told of a run.

    Attributes:
        folder: the run's directory, whose name is a good name for the run.
        config: of the run, as JSON values, with the name of its recipe.
        id: what `OutsideTracker.open` returned when the run was first tracked; None for a new run.
        step: of the first row that will come. A resumed run may repeat earlier rows, with equal values.
    """

    folder: Path
    config: Mapping[str, Any]
    id: str | None
    step: int


class OutsideTracker(ABC):
    """A place where a run's metrics are shown. Made without arguments; all calls come from one thread.

    An error ends nothing but this tracker, or the writing of one row.
    """

    library: ClassVar[str | None] = None
    """The package that must be installed, if it needs one."""

    @abstractmethod
    def open(self, run: TrackedRun) -> str | None:
        """Begin, before the first row. Return the id by which a resumed run is found again, if needed."""

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Show the metrics of one row: finite numbers by name, such as `loss` and `evaluation/text_bits…`."""

    @abstractmethod
    def close(self, *, has_failed: bool) -> None:
        """End, after the last row; `has_failed`: the run ended with an error."""


@final
class TensorBoard(OutsideTracker):
    """Event files in the run's folder `tensorboard`."""

    library = "tensorboard"

    def open(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter  # pyright: ignore[reportPrivateImportUsage]

        folder = run.folder / "tensorboard"
        # Events from this step on are those that a resumed run repeats.
        self._writer = SummaryWriter(str(folder), purge_step=run.step if folder.exists() else None)
        self._writer.add_text("config", f"```json\n{json.dumps(run.config, indent=2)}\n```")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, has_failed: bool) -> None:
        self._writer.close()


@final
class WeightsAndBiases(OutsideTracker):
    """A run in the project `WANDB_PROJECT`, or `trimask`; its files are in the run's folder `wandb`."""

    library = "wandb"

    def open(self, run: TrackedRun) -> str:
        import wandb  # pyright: ignore[reportMissingImports]  (an extra)

        id = run.id or uuid.uuid4().hex[:16]
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=id,
            name=run.folder.name,
            config=dict(run.config),
            dir=str(run.folder),
            resume="allow",
        )
        return id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, *, has_failed: bool) -> None:
        self._run.finish(exit_code=int(has_failed))


@final
class Trackio(OutsideTracker):
    """A run in the project `TRACKIO_PROJECT`, or `trimask`."""

    library = "trackio"

    def open(self, run: TrackedRun) -> str:
        import trackio  # pyright: ignore[reportMissingImports]  (an extra)

        id = run.id or f"{run.folder.name}-{uuid.uuid4().hex[:8]}"  # it finds runs by their names
        self._run: Any = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", _PROJECT),
            name=id,
            config=dict(run.config),
            resume="allow",
        )
        return id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, *, has_failed: bool) -> None:
        self._run.finish()


@final
class MLflow(OutsideTracker):
    """A run in the experiment `MLFLOW_EXPERIMENT_NAME`, or `trimask`, at `MLFLOW_TRACKING_URI`."""

    library = "mlflow"

    def open(self, run: TrackedRun) -> str:
        import mlflow  # pyright: ignore[reportMissingImports]  (an extra)

        self._client: Any = mlflow.MlflowClient()
        if run.id is not None:
            self._id = run.id
            self._client.update_run(run.id, status="RUNNING")
            return run.id
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        place = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        self._id = self._client.create_run(place, run_name=run.folder.name).info.run_id
        self._client.log_dict(self._id, dict(run.config), "config.json")
        return self._id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]  (an extra)

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, *, has_failed: bool) -> None:
        self._client.set_terminated(self._id, status="FAILED" if has_failed else "FINISHED")


TRACKERS: Mapping[str, type[OutsideTracker]] = MappingProxyType(
    {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "trackio": Trackio, "mlflow": MLflow}
)


def find_tracker(name: str) -> OutsideTracker:
    """Make the tracker `name`: one of `TRACKERS`, or a class of your own, `mine.py:Class` or `package:Class`.

    Raises:
        UserError: there is none of this name, it is no subclass of `OutsideTracker`, or it cannot be made.
        ImportError: its library is not installed; the message says how to install it.
    """
    found = TRACKERS.get(name)
    if found is None:
        if not modules.is_own(name):
            known = ", ".join(TRACKERS)
            raise UserError(f"unknown tracker {name!r}: give {known}, or your own, mine.py:Class")
        found = modules.load(name)
    if not isinstance(found, type) or not issubclass(found, OutsideTracker):
        raise UserError(f"{name} is not a tracker: give a subclass of {__name__}.OutsideTracker")
    if found.library is not None:
        try:
            importlib.import_module(found.library)
        except ImportError as error:
            raise ImportError(
                f"tracker {name} needs {found.library} ({error}): pip install {found.library}"
            ) from error
    where = name.rpartition(":")[0]
    with modules.run_user_code(modules.label(name), Path(where) if where.endswith(".py") else None):
        return found()


@contextlib.contextmanager
def open_trackers(
    names: Sequence[str], folder: Path, config: Mapping[str, Any]
) -> Iterator[Callable[[int, Mapping[str, Any]], None]]:
    """Yield a function that passes each row of a run's metrics (`train`'s `on_progress`) on to trackers.

    They begin with the first row, and end with this block. What they print goes to stderr, and they read an
    empty stdin: W&B would ask for a key on a terminal, in the middle of a run.

    Args:
        names: as in `find_tracker`.
        folder: the run's directory.
        config: of the run, as JSON values.

    Raises:
        UserError, ImportError: as `find_tracker`, before anything else.
    """
    lock = threading.Lock()
    found = {name: find_tracker(name) for name in dict.fromkeys(names)}  # one named twice would write twice
    threads = [_Thread(modules.label(name), found[name], folder, config, lock) for name in found]

    def write(step: int, row: Mapping[str, Any]) -> None:
        for thread in threads:
            thread.rows.put((step, row))

    has_failed = True
    with _off_terminal() if threads else contextlib.nullcontext():
        try:
            yield write
            has_failed = False
        finally:
            for thread in threads:
                thread.rows.put(has_failed)
            for thread in threads:
                thread.wait()


@contextlib.contextmanager
def _off_terminal() -> Iterator[None]:
    stdin = sys.stdin
    with open(os.devnull, encoding="utf-8") as nothing, contextlib.redirect_stdout(sys.stderr):
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = stdin


@final
class _Thread:
    """Passes rows on to one tracker, and warns of its first error."""

    def __init__(
        self,
        name: str,
        tracker: OutsideTracker,
        folder: Path,
        config: Mapping[str, Any],
        lock: threading.Lock,
    ) -> None:
        self.rows: queue.SimpleQueue[tuple[int, Mapping[str, Any]] | bool] = queue.SimpleQueue()
        self._name, self._tracker, self._folder, self._config = name, tracker, folder, config
        self._lock = lock  # of the file of ids
        self._has_warned = False
        self._thread = threading.Thread(target=self._run, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            logger.warning(
                "tracker %s has not ended after %.0f s; its last rows may be missing, metrics.jsonl has all",
                self._name,
                _PATIENCE,
            )

    def _run(self) -> None:
        first = self.rows.get()
        if isinstance(first, bool):  # the run ended before its first row
            return
        is_open = self._try("begin", lambda: self._open(first[0]))
        item: tuple[int, Mapping[str, Any]] | bool = first
        while not isinstance(item, bool):
            if is_open:
                self._write(*item)
            item = self.rows.get()
        has_failed = item
        if is_open:
            self._try("end", lambda: self._tracker.close(has_failed=has_failed))

    def _open(self, step: int) -> None:
        ids = self._read_ids()
        given = ids.get(self._name)
        run = TrackedRun(folder=self._folder.absolute(), config=self._config, id=given, step=step)
        id = self._tracker.open(run)
        if id is not None and id != given:
            with self._lock:
                io.write_json(self._folder / IDS, {**self._read_ids(), self._name: id})

    def _read_ids(self) -> dict[str, str]:
        path = self._folder / IDS
        found = io.read_json(path, fix="remove it") if path.exists() else {}
        if not isinstance(found, dict) or not all(isinstance(id, str) for id in found.values()):
            raise UserError(f"{path} does not list the ids of trackers: remove it")
        return found

    def _write(self, step: int, row: Mapping[str, Any]) -> None:
        values = {name: float(value) for name, value in row.items() if name != "step" and value is not None}
        self._try("write a row", lambda: self._tracker.write(step, values))

    def _try(self, what: str, call: Callable[[], object]) -> bool:
        """Call `call`; return whether it raised nothing."""
        try:
            call()
            return True
        except BaseException as error:  # SystemExit too: nothing of a tracker's concerns the run
            if not self._has_warned:
                logger.warning(
                    "tracker %s could not %s (%s): the run goes on, and metrics.jsonl has all rows",
                    self._name,
                    what,
                    modules.describe_error(error),
                )
            self._has_warned = True
            return False
