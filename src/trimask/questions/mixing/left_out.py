"""How a mixing law errs at mixtures that it was not fitted to."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from trimask.estimate import Estimate, mean
from trimask.laws.fitting import Fit
from trimask.laws.mixing_law import Linear, Mean, MixingLaw, leave_one_out
from trimask.studies.findings import Claim, Findings, Table, format_estimate


def describe_mixing_law(law: MixingLaw, fit: Fit) -> Findings:
    """Describe the errors of a fitted law at each mixture left out, beside those of a linear law and of one
    loss for all mixtures.
    """
    laws = (law, Linear(parts=law.parts), Mean(parts=law.parts))
    own, linear, plain = (np.abs(leave_one_out(each, fit.inputs, fit.losses)) for each in laws)
    table = Table(
        title=f"Relative error at each of {len(own)} mixtures, left out of the fit, in percent",
        header=("law", "mean", "largest"),
        rows=tuple(
            (each.formula, f"{100 * errors.mean():.2f}", f"{100 * errors.max():.2f}")
            for each, errors in zip(laws, (own, linear, plain), strict=True)
        ),
    )
    return Findings(claims=(claim_less(law.formula, own, linear),), tables=(table,), pictures={})


def claim_less(
    what: str, errors: Float[np.ndarray, "mixtures"], linear: Float[np.ndarray, "mixtures"]
) -> Claim:
    """Claim that a law errs less than a linear one at the same mixtures, which neither was fitted to."""
    less = mean(100 * (linear - errors))
    return Claim(
        text=f"{what} errs less than a linear law at the {len(errors)} mixtures it was not fitted to: "
        f"{100 * errors.mean():.2f} % against {100 * linear.mean():.2f}, {format_estimate(less)} less",
        holds=tell_sign(less),
    )


def tell_sign(estimate: Estimate) -> bool | None:
    """Return whether the interval is above 0; None if it holds 0 or is infinite."""
    return True if estimate.low > 0 else False if estimate.high < 0 else None


def format_mean_error(errors: Sequence[float]) -> str:
    """Format the mean absolute error in percent."""
    return f"{100 * float(np.abs(errors).mean()):.2f}" if errors else "–"
