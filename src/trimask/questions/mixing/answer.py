"""What the laws say about the runs of the study of mixtures: fits, their errors, and the best shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float

from trimask.errors import UserError
from trimask.laws.best_mixture import Best, Goal, Limits, choose_mixture
from trimask.laws.fitting import Fit, group_equal
from trimask.laws.mixing import fit_mixing
from trimask.laws.mixing_law import Linear, Mean, MixingLaw, leave_one_out
from trimask.questions.mixing.runs import FITTED, HELD_OUT, Measured, Shares


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """A fitted law, and its relative errors at mixtures that it was not fitted to.

    Attributes:
        left_out: at each mixture of the design, fitted without it.
        held_out: at each held-out mixture.
        is_baseline: whether it is only there to be beaten.
    """

    fit: Fit
    left_out: Mapping[Shares, float]
    held_out: Mapping[Shares, float]
    is_baseline: bool

    @property
    def errors(self) -> Float[np.ndarray, "mixtures"]:
        """Absolute errors of both kinds."""
        return np.abs([*self.left_out.values(), *self.held_out.values()])


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answer:
    """What the runs say.

    Attributes:
        laws: of each modality, the laws in the order of the study, and the baselines.
        best: the best mixture; None if there is none, and `refusal` says why.
        goal: what it minimizes.
        epochs: passes over a task's data at a share of 1.
    """

    laws: Mapping[str, Sequence[Judged]]
    best: Best | None = None
    goal: Goal | None = None
    epochs: Mapping[str, float]
    refusal: str | None = None

    def chosen(self, modality: str) -> Judged:
        """Return the law with the least mean error where it was left out. The held-out mixtures do not
        choose, so that they test.
        """
        laws = [law for law in self.laws[modality] if not law.is_baseline]
        return min(laws, key=lambda law: float(np.abs(list(law.left_out.values())).mean()))


def answer(
    measured: Measured,
    *,
    laws: Sequence[MixingLaw],
    priorities: Mapping[str, float],
    trust: float,
    most_epochs: float,
    num_draws: int,
) -> Answer:
    """Fit `laws` to the runs of the design, and find the best mixture; `num_draws` of the chosen laws."""
    epochs = _epochs(measured)
    runs = measured.of(FITTED)
    if not runs:
        return Answer(laws={}, epochs=epochs, refusal="no run of the design is done")
    shares = _columns(measured, [measured.shares(run) for run in runs])
    baselines = (Linear(parts=tuple(measured.tasks)), Mean(parts=tuple(measured.tasks)))
    found: dict[str, list[Judged]] = {}
    try:
        for modality in measured.modalities:
            losses = measured.adjust(runs, modality)
            found[modality] = [
                _judge(measured, law, shares, losses, modality, is_baseline=law in baselines)
                for law in (*laws, *baselines)
            ]
    except UserError as error:
        return Answer(laws={}, epochs=epochs, refusal=str(error))
    answered = Answer(laws=found, epochs=epochs)
    fits = {
        modality: fit_mixing(
            _mixing(answered.chosen(modality)), shares, measured.adjust(runs, modality), num_draws=num_draws
        )
        for modality in measured.modalities
    }
    try:
        limits = _limits(measured, shares, epochs, trust=trust, most_epochs=most_epochs)
        goal = Goal(fits=fits, priorities=priorities, limits=limits)
        return replace(answered, goal=goal, best=choose_mixture(goal))
    except UserError as error:
        return replace(answered, refusal=str(error))


def _judge(
    measured: Measured,
    law: MixingLaw,
    shares: Mapping[str, Float[np.ndarray, "rows"]],
    losses: Float[np.ndarray, "rows"],
    modality: str,
    *,
    is_baseline: bool,
) -> Judged:
    fit = fit_mixing(law, shares, losses, num_draws=0)
    units = group_equal(fit.inputs)
    first = [int(np.flatnonzero(units == unit)[0]) for unit in range(int(units.max()) + 1)]
    names = [measured.shares(measured.of(FITTED)[place]) for place in first]
    held = measured.rows(HELD_OUT)
    errors = {}
    if held:
        values = law.predict(_columns(measured, [key[1] for key in held]), fit.estimate[None])[0]
        for value, (key, runs) in zip(values, held.items(), strict=True):
            errors[key[1]] = float(value / measured.adjust(runs, modality).mean() - 1)
    return Judged(
        fit=fit,
        left_out=dict(zip(names, leave_one_out(law, fit.inputs, losses).tolist(), strict=True)),
        held_out=errors,
        is_baseline=is_baseline,
    )


def _mixing(judged: Judged) -> MixingLaw:
    law = judged.fit.law
    assert isinstance(law, MixingLaw)
    return law


def _columns(measured: Measured, rows: Sequence[Shares]) -> dict[str, Float[np.ndarray, "rows"]]:
    """Return the shares by task, which add up to 1 exactly."""
    array = np.array(rows)
    array = array / array.sum(1, keepdims=True)
    return {task: array[:, i] for i, task in enumerate(measured.tasks)}


def _epochs(measured: Measured) -> dict[str, float]:
    """Return how often each task's data would be seen at a share of 1, as far as runs of the design tell."""
    found = {}
    for run in measured.of(FITTED):
        for task, share in zip(measured.tasks, measured.shares(run), strict=True):
            if run.figures.get(f"epochs/{task}"):
                found[task] = run.figure(f"epochs/{task}") / share
    return found


def _limits(
    measured: Measured,
    shares: Mapping[str, Float[np.ndarray, "rows"]],
    epochs: Mapping[str, float],
    *,
    trust: float,
    most_epochs: float,
) -> Limits:
    total = sum(measured.default)
    return Limits(
        default={task: share / total for task, share in zip(measured.tasks, measured.default, strict=True)},
        trust=trust,
        least={task: float(column.min()) for task, column in shares.items()},
        caps={task: most_epochs / whole for task, whole in epochs.items()},
    )
