"""Published scaling laws, to show beside ours: they disagree, and none is universal."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

import numpy as np

from trimask.estimate import Estimate
from trimask.laws.fitting import Fit
from trimask.laws.scaling import best_data
from trimask.questions.scaling.findings import make_curve
from trimask.studies.findings import Curve, Panel, Table, format_estimate

_POINTS = 9


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A published optimum: N* ∝ C^size, D* ∝ C^data. `factor`: of D* = factor · N^(data / size); None if only
    the exponents are known. `status` as in docs/method.md: [L] literature, [P?] a secondary summary.
    """

    size: float
    data: float
    status: str
    what: str
    factor: float | None = None

    @property
    def slope(self) -> float:
        """The exponent of D* over N."""
        return self.data / self.size


def _of_law(*, a: float, alpha: float, b: float, beta: float, status: str, what: str) -> Published:
    """From A, alpha, B and beta."""
    return Published(
        size=beta / (alpha + beta),
        data=alpha / (alpha + beta),
        status=status,
        what=what,
        factor=(beta * b / (alpha * a)) ** (1 / beta),
    )


LAWS: Mapping[str, Published] = MappingProxyType(
    {
        "the paper": Published(
            size=1 / 1.84, data=0.84 / 1.84, factor=7754.0, status="[P?]", what="tri-modal masked diffusion"
        ),
        "Quokka": _of_law(
            a=798.6, alpha=0.379, b=4604.9, beta=0.378, status="[L]", what="masked diffusion, text"
        ),
        "von Rütte et al.": Published(size=0.566, data=0.434, status="[L]", what="masked diffusion, text"),
        "SODA": Published(size=0.367, data=0.579, status="[L]", what="autoregressive, audio and text"),
    }
)


def compare_exponents(ours: Mapping[str, Estimate]) -> Table:
    """Tabulate our exponents a, by loss, beside the published ones."""
    rows = [
        (f"this study, {loss}", "measured here", format_estimate(each, 3), "–") for loss, each in ours.items()
    ]
    rows += [
        (name, f"{each.what} {each.status}", f"{each.size:.3f}", f"{each.slope:.2f}")
        for name, each in LAWS.items()
    ]
    return Table(
        title="a of N* ∝ C^a, and the exponent of D* over N; published: other models, data and sizes",
        header=("law", "of", "a", "D* over N"),
        rows=tuple(rows),
    )


def draw_published(fit: Fit) -> Panel:
    """Draw D* over N: ours with its interval, and the published laws at our sizes; those of which only the
    slope is known pass through our middle.
    """
    sizes = np.geomspace(fit.inputs["n"].min(), fit.inputs["n"].max(), _POINTS)
    ours = [fit.derive(lambda draws, n=float(size): best_data(draws, n)) for size in sizes]
    curves = [make_curve("this study", sizes.tolist(), ours)]
    middle = _POINTS // 2
    for name, law in LAWS.items():
        is_known = law.factor is not None
        if not is_known and not 0 < ours[middle].value < math.inf:
            continue
        factor = law.factor or ours[middle].value / float(sizes[middle]) ** law.slope
        label = f"{name} {law.status}" + ("" if is_known else ", slope")
        y = factor * sizes**law.slope
        curves.append(Curve(label=label, x=sizes.tolist(), y=y.tolist(), is_dashed=True))
    return Panel(
        title="published D*(N) beside ours",
        x_label="N",
        y_label="D*, tokens",
        curves=tuple(curves),
        is_log_y=True,
    )
