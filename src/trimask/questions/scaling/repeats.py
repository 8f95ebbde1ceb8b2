"""What repeated data is worth: the data-constrained law of each modality that some runs repeat."""

from collections.abc import Mapping, Sequence

import numpy as np

from trimask.laws.fitting import Fit, NotIdentified
from trimask.laws.scaling import DataConstrained
from trimask.questions.scaling.findings import format_interval
from trimask.questions.scaling.fits import EPOCHS, OTHER_DRAWS, Fitted, fit_loss
from trimask.studies.findings import Table
from trimask.studies.trial import Result

_NEAR_END = 0.01  # of the logarithmic range of R*
Sources = Mapping[str, Mapping[str, float]]
"""Of each modality, the sources that it is learned from, and their shares of its target tokens."""


def find_unique(results: Sequence[Result], sources: Sources, longer: float = 1.0) -> dict[str, np.ndarray]:
    """Return the unique share of the data in runs `longer` times as long as each result, by modality, where
    the epochs are known.
    """
    found: dict[str, np.ndarray] = {}
    for modality, shares in sources.items():
        names = {source: f"{EPOCHS}/{source}" for source in shares}
        if not all(name in each.figures for name in names.values() for each in results):
            continue  # data that is only stated, or without end
        unique = [
            sum(s / max(longer * each.figure(names[source]), 1.0) for source, s in shares.items())
            for each in results
        ]
        found[modality] = np.array(unique) / sum(shares.values())
    return found


def fit_repeats(
    results: Sequence[Result], fitted: Fitted, sources: Sources, *, num_draws: int
) -> dict[str, Fit]:
    """Fit the law of repeated data to each modality that has a plain law and that some runs repeat."""
    found = {}
    for modality, unique in find_unique(results, sources).items():
        if modality not in fitted.fits or not (unique < 1).any():
            continue
        try:
            draws = min(num_draws, OTHER_DRAWS)
            found[modality] = fit_loss(results, modality, unique=unique, num_draws=draws)
        except NotIdentified:
            continue
    return found


def find_doubts(fit: Fit) -> tuple[str, ...]:
    """Return why a law is not identified, also where it is R* alone that is not."""
    doubts, end = fit.doubts, _describe_open_end(fit)
    is_said = not end or any(each.startswith("R* ") for each in doubts)
    return doubts if is_said else (*doubts, f"R* is {end}")


def tabulate_repeats(fits: Mapping[str, Fit], plain: Mapping[str, Fit]) -> Table | None:
    """Tabulate, beside the plain law, R* and what else changes; None if no run repeats data."""
    rows = []
    for modality, fit in fits.items():
        epochs = f"{float((fit.inputs['d'] / fit.inputs['u']).max()):.1f}"
        end = _describe_open_end(fit)
        half_life = f"not identified: {end}" if end else format_interval(fit.parameters["R*"])
        for law, each, last in (("plain", plain[modality], "–"), ("repeats", fit, half_life)):
            cells = (format_interval(each.parameters[name]) for name in ("E", "alpha", "beta"))
            rms = f"{100 * float(np.sqrt((each.residuals**2).mean())):.2f} %"
            rows.append((modality, law, epochs, *cells, rms, last))
    if not rows:
        return None
    return Table(
        title=f"What repeats are worth: {DataConstrained().formula}; U: unique target tokens. The first R* "
        "repeats are worth nearly as much as new data",
        header=("loss", "law", "epochs, most", "E", "alpha", "beta", "rms error", "R*"),
        rows=tuple(rows),
    )


def _describe_open_end(fit: Fit) -> str:
    """Say which end of its range the interval of R* reaches; nothing if neither."""
    if not isinstance(fit.law, DataConstrained):
        return ""
    half_life, span = fit.parameters["R*"], DataConstrained().exponents["R*"]
    low, high = span.unscale(np.array([half_life.low, half_life.high])) if half_life.has_interval else (0, 1)
    if low < _NEAR_END and high > 1 - _NEAR_END:
        return "anywhere: run some settings for more epochs"
    if high > 1 - _NEAR_END:
        return f"above {half_life.low:.2g}, with no upper end: run some settings for more epochs"
    return f"below {half_life.high:.2g}, with no lower end" if low < _NEAR_END else ""
