"""Compare the arms of a study, paired by seed."""

import math
from collections.abc import Mapping, Sequence

from trimask.estimate import Estimate
from trimask.studies.fit import fit_differences
from trimask.studies.trial import Result


def paired_differences(losses: Mapping[str, Mapping[int, float]], reference: str) -> dict[str, Estimate]:
    """Return each arm's difference from the reference arm, with seed effects removed (`fit_differences`).

    `losses`: arm -> seed -> loss, infinite if the run diverged. An arm with a diverged seed differs by
    infinity; without a whole reference there is nothing to compare with. Only seeds of the reference count.
    """
    own = losses.get(reference, {})
    rows = {arm: {seed: loss for seed, loss in row.items() if seed in own} for arm, row in losses.items()}
    finite = {arm: row for arm, row in rows.items() if row and all(map(math.isfinite, row.values()))}
    if reference not in finite:
        return {}
    found = fit_differences(list(finite.values()), list(finite).index(reference))
    never = Estimate(value=math.inf, low=math.inf, high=math.inf)
    compared = dict(zip(finite, found, strict=True))
    return {arm: compared.get(arm, never) for arm, row in rows.items() if row and arm != reference}


def describe_intervals(results: Sequence[Result]) -> str:
    """Say what the intervals of differences are of, for a report's note."""
    seeds = {result.factors["seed"] for result in results}
    if len(seeds) < 2:
        return "Differences of one seed have no interval, so they decide nothing: run more seeds."
    return "Intervals are of differences paired by seed."


def verdict(difference: Estimate) -> bool | None:
    """Return whether a difference is below 0; None if its interval does not tell, or there is none."""
    if difference.low > 0:
        return False
    if math.isinf(difference.low) or math.isinf(difference.high):
        return None
    return True if difference.high < 0 else None
