"""In which order to run what is missing, so that a law's prediction elsewhere is soon known: V-optimal design
(arXiv 2604.22753) [L].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from trimask.laws.fitting import Inputs, Law

_STEP = 1e-5  # of ln parameter


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Goal:
    """A prediction, linear in unknowns, and what each candidate run would tell of these.

    Attributes:
        precision: of the unknowns, by prior knowledge and the runs that are done.
        rows: derivatives of each candidate's measurement, over the standard deviation of its noise.
        target: derivatives of the prediction.
    """

    precision: Float[np.ndarray, "unknowns unknowns"]
    rows: Float[np.ndarray, "candidates unknowns"]
    target: Float[np.ndarray, "unknowns"]


def order_runs(goals: Sequence[Goal], costs: Float[np.ndarray, "candidates"]) -> list[int]:
    """Return the numbers of the candidates, greedily: the next is always the one that lowers the variance of
    the predictions, averaged over `goals`, most for its cost, given those before it.
    """
    spreads = [np.linalg.inv(goal.precision) for goal in goals]
    left = list(range(len(costs)))
    order = []
    while left:
        gains = np.zeros(len(left))
        for goal, spread in zip(goals, spreads, strict=True):
            rows = goal.rows[left]
            told = rows @ spread
            gains += (told @ goal.target) ** 2 / (1 + (told * rows).sum(1))
        chosen = left.pop(int((gains / costs[left]).argmax()))
        order.append(chosen)
        for number, goal in enumerate(goals):
            told = spreads[number] @ goal.rows[chosen]
            spreads[number] = spreads[number] - np.outer(told, told) / (1 + goal.rows[chosen] @ told)
    return order


def find_slopes(
    law: Law, inputs: Inputs, parameters: Float[np.ndarray, "parameters"]
) -> Float[np.ndarray, "rows parameters"]:
    """Return ∂ ln loss / ∂ ln parameter at each row, by central differences."""
    steps = np.exp(_STEP * np.eye(len(parameters)))
    high, low = (np.log(law.predict(inputs, parameters * each)) for each in (steps, 1 / steps))
    return (high - low).T / (2 * _STEP)
