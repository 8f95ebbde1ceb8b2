"""Are activations, and what training does to them, of one size at any width and depth?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import final

import numpy as np

from trimask.estimate import Estimate
from trimask.model.parametrization import Parametrization, Standard
from trimask.questions.coordinate_check.coordinates import COORDINATES, measure_coordinates
from trimask.questions.lr_transfer import COMPLETED_P, STANDARD
from trimask.runs.build import build_denoiser, build_step, build_stream, build_vocabulary
from trimask.studies.findings import Claim, Curve, Findings, Panel, Table, format_estimate
from trimask.studies.fit import fit_line
from trimask.studies.study import LOSSES, Study, small_run
from trimask.studies.tokens import load_sources, load_tokenizers
from trimask.studies.trial import Result, Trial
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.run import RunConfig

_MODALITIES = LOSSES[1:]
_FLAT = 0.15  # |slope| of log size over log width or depth [D]: 37 % over a factor of 8
_MEASURED_BATCH = 1_000_000  # far behind all batches that are trained on


def coordinate_check() -> "CoordinateCheck":
    """Are activations and updates of one size at any width and depth? Widths 64 to 512, depths 3 to 12.

    At the start and after 1, 4 and 16 updates, under Complete(d)P and the standard one.
    """
    return CoordinateCheck(
        base=replace(
            small_run(learning_rate=2.0**-7),
            lr_schedule=WarmupCosine(warmup_fraction=0.0, final_fraction=1.0),
            num_steps=100,
        ),
        widths=(64, 128, 256, 512),
        depths=(3, 6, 12),
        updates=(1, 4, 16),
        seeds=(0, 1, 2),
    )


def coordinate_check_short() -> "CoordinateCheck":
    """The same in minutes: one seed, 1 and 4 updates."""
    return replace(coordinate_check(), updates=(1, 4), seeds=(0,))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CoordinateCheck(Study):
    """The size of each coordinate on held-out sequences at the start, and of its change after a number of
    updates at the full learning rate; slopes over width (at the base's depth) and depth (at its width).
    """

    base: RunConfig
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    updates: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def uses_gpu(self) -> bool:
        return False  # some values are read within blocks, which a sharded model does not allow

    def trials(self, results: Mapping[str, Result]) -> tuple[Trial, ...]:
        return tuple(
            self._trial(name, width, depth, seed)
            for seed in self.seeds
            for name in (COMPLETED_P, STANDARD)
            for width, depth in self._sizes()
        )

    def measure(self, trial: Trial, folder: Path, tokens: Path) -> dict[str, float]:
        config, tokenizers = trial.config, load_tokenizers(trial.config)
        denoiser = build_denoiser(config, build_vocabulary(config, tokenizers))
        stream = build_stream(config, load_sources(config, tokenizers, "train", tokens), denoiser.vocabulary)
        step = build_step(config, denoiser, stream)
        batch = stream.batch(_MEASURED_BATCH)
        (view,) = step.passes.corruption.views(batch, _MEASURED_BATCH)
        start = measure_coordinates(denoiser, batch, view)
        figures = {f"start/{name}": size for name, size in start.sizes().items()}
        done = 0
        for number in self.updates:
            for trained_on in islice(stream.batches(done), number - done):
                step(trained_on)
            done = number
            moved = measure_coordinates(denoiser, batch, view).change(start)
            figures |= {f"change after {number}/{name}": size for name, size in moved.items()}
        return figures

    def findings(self, results: Sequence[Result]) -> Findings:
        times = ("start", *(f"change after {number}" for number in self.updates))
        slopes = {
            (name, axis, time, modality, coordinate): slope
            for name in (COMPLETED_P, STANDARD)
            for axis in ("width", "depth")
            for time in times
            for modality in _MODALITIES
            for coordinate in COORDINATES
            if (slope := self._slope(results, name, axis, f"{time}/{modality}/{coordinate}")) is not None
        }
        claims = [
            claim
            for name in (COMPLETED_P, STANDARD)
            for axis in ("width", "depth")
            for claim in _claims(name, axis, {k[2:]: v for k, v in slopes.items() if k[:2] == (name, axis)})
        ]
        tables = [_table(axis, slopes) for axis in ("width", "depth")]
        last = times[-1]
        return Findings(
            claims=tuple(claims),
            tables=tuple(tables),
            notes=(
                "The unembedding starts at 0: the first update moves it alone, and all else by its decay.",
            ),
            pictures={
                f"coordinates_by_{axis}": tuple(
                    tuple(self._panel(results, name, axis, last, c) for c in COORDINATES)
                    for name in (COMPLETED_P, STANDARD)
                )
                for axis in ("width", "depth")
            },
        )

    def _sizes(self) -> list[tuple[int, int]]:
        width, depth = self.base.model.width, self.base.model.depth
        wider = [(w, depth) for w in self.widths if w != width]
        return [(width, depth), *wider, *((width, d) for d in self.depths if d != depth)]

    def _trial(self, name: str, width: int, depth: int, seed: int) -> Trial:
        model = self.base.model.resized(width=width, depth=depth)
        rule: Parametrization = model.parametrization if name == COMPLETED_P else Standard()
        return Trial(
            factors={"parametrization": name, "width": width, "depth": depth, "seed": seed},
            config=replace(self.base, model=replace(model, parametrization=rule), seed=seed),
        )

    def _along(
        self, results: Sequence[Result], name: str, axis: str, figure: str
    ) -> Iterator[tuple[int, list[float]]]:
        """Yield the value along an axis, and the figure of each seed."""
        other, fixed = (
            ("depth", self.base.model.depth) if axis == "width" else ("width", self.base.model.width)
        )
        for size in self.widths if axis == "width" else self.depths:
            values = [
                result.figure(figure)
                for result in results
                if result.factors["parametrization"] == name
                and result.factors[axis] == size
                and result.factors[other] == fixed
                and figure in result.figures
            ]
            if values:
                yield size, values

    def _slope(self, results: Sequence[Result], name: str, axis: str, figure: str) -> Estimate | None:
        points = [
            (np.log2(size), np.log2(value))
            for size, values in self._along(results, name, axis, figure)
            for value in values
            if 0 < value < np.inf
        ]
        if len({x for x, _ in points}) < 2:
            return None  # exactly 0 at the start, as the logits are, or not run yet
        return fit_line([x for x, _ in points], [y for _, y in points])

    def _panel(self, results: Sequence[Result], name: str, axis: str, time: str, coordinate: str) -> Panel:
        curves = []
        for modality in _MODALITIES:
            found = dict(self._along(results, name, axis, f"{time}/{modality}/{coordinate}"))
            curves.append(Curve(label=modality, x=list(found), y=[float(np.mean(v)) for v in found.values()]))
        return Panel(
            title=f"{name}: {coordinate}, {time}",
            x_label=axis,
            y_label="RMS",
            curves=tuple(curves),
            is_log_y=True,
        )


def _claims(name: str, axis: str, slopes: Mapping[tuple[str, str, str], Estimate]) -> Iterator[Claim]:
    if not slopes:
        return
    steepest = max(slopes, key=lambda key: abs(slopes[key].value))
    time, modality, coordinate = steepest
    flat = sum(abs(slope.value) <= _FLAT for slope in slopes.values())
    yield Claim(
        text=f"{name}: all sizes are flat over {axis} (|slope| <= {_FLAT}): {flat} of {len(slopes)} are; "
        f"steepest {coordinate} of {modality}, {time}: {format_estimate(slopes[steepest])}",
        holds=flat == len(slopes),
    )


def _table(axis: str, slopes: Mapping[tuple[str, str, str, str, str], Estimate]) -> Table:
    times = list(dict.fromkeys(time for _, _, time, _, _ in slopes))
    rows = []
    for name in (COMPLETED_P, STANDARD):
        for coordinate in COORDINATES:
            for modality in _MODALITIES:
                cells = [slopes.get((name, axis, time, modality, coordinate)) for time in times]
                if any(cells):
                    rows.append(
                        (name, coordinate, modality, *(format_estimate(c) if c else "0" for c in cells))
                    )
    return Table(
        title=f"Slope of log2 RMS over log2 {axis}",
        header=("parametrization", "coordinate", "modality", *times),
        rows=tuple(rows),
    )
