"""Numbers derived from a configuration, with the rules that explain them."""

from dataclasses import dataclass
from typing import final

PAPER = "arXiv 2602.21472 [P]"
TABLE_1 = "Complete(d)P, arXiv 2512.22382, Table 1 [L]"
OURS = "ours [D]"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """A number derived from others.

    Attributes:
        rule: the formula, with the numbers filled in.
        source: where the rule comes from, and its status: [P] the paper, [L] other literature, [D] our
            decision (docs/method.md).
    """

    name: str
    value: float | int
    rule: str
    source: str
