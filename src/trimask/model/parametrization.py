"""Initialization and optimizer values of a tensor from its role and the network's size: Complete(d)P, or the
standard one.
"""

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

from trimask.config.derived import TABLE_1, Derived
from trimask.errors import UserError
from trimask.model.block import feed_forward_width


class Role(enum.Enum):
    """The role of a tensor in the network: all that Complete(d)P needs besides its fan-in."""

    INPUT_EMBEDDING = "input embedding"
    HIDDEN_WEIGHT = "hidden weight"
    HIDDEN_VECTOR = "hidden vector"
    QK_NORM_GAIN = "QK-norm gain"
    FINAL_NORM_GAIN = "final norm gain"
    UNEMBEDDING = "unembedding"


_ROLES = MappingProxyType(
    {
        "embedding": Role.INPUT_EMBEDDING,
        "qkv": Role.HIDDEN_WEIGHT,
        "out": Role.HIDDEN_WEIGHT,
        "gate_up": Role.HIDDEN_WEIGHT,
        "down": Role.HIDDEN_WEIGHT,
        "attention_norm": Role.HIDDEN_VECTOR,
        "feed_forward_norm": Role.HIDDEN_VECTOR,
        "q_norm": Role.QK_NORM_GAIN,
        "k_norm": Role.QK_NORM_GAIN,
        "final_norm": Role.FINAL_NORM_GAIN,
        "unembedding": Role.UNEMBEDDING,
    }
)
_GAINS = (Role.HIDDEN_VECTOR, Role.QK_NORM_GAIN, Role.FINAL_NORM_GAIN)


def role_of(name: str) -> Role:
    """Return the role of the denoiser's parameter `name`, such as `blocks.3.attention.qkv.weight`.

    Raises:
        UserError: it has no role, so no rule would set its values.
    """
    module, _, kind = name.rpartition(".")
    role = _ROLES.get(module.rpartition(".")[2]) if kind == "weight" else None
    if role is None:
        raise UserError(f"the tensor {name} has no role: state one in model/parametrization.py")
    return role


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """m_N^width · m_L^(alpha · α + constant): an entry of Table 1, for any α."""

    width: int = 0
    alpha: int = 0
    constant: int = 0

    def value(self, *, width_ratio: float, depth_ratio: float, alpha: float) -> float:
        """The factor at m_N = `width_ratio`, m_L = `depth_ratio`."""
        return width_ratio**self.width * depth_ratio ** (self.alpha * alpha + self.constant)

    def __str__(self) -> str:
        width = {0: "", 1: "m_N"}.get(self.width, f"m_N^{self.width}")
        depth = {(0, 0): "", (1, -1): "m_L^(α-1)", (-1, 0): "m_L^-α"}[self.alpha, self.constant]
        return " ".join(filter(None, (width, depth))) or "1"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The factors of one role on the base's values."""

    init_variance: Power = Power()
    learning_rate: Power = Power()
    eps: Power = Power()
    weight_decay: Power = Power()


COMPLETED_P: Mapping[Role, Row] = MappingProxyType(
    {
        Role.INPUT_EMBEDDING: Row(eps=Power(width=-1)),
        Role.HIDDEN_WEIGHT: Row(
            init_variance=Power(width=-1),
            learning_rate=Power(width=-1, alpha=1, constant=-1),
            eps=Power(width=-1, alpha=-1),
            weight_decay=Power(width=1),
        ),
        Role.HIDDEN_VECTOR: Row(
            learning_rate=Power(alpha=1, constant=-1),
            eps=Power(width=-1, alpha=-1),
        ),
        Role.QK_NORM_GAIN: Row(learning_rate=Power(alpha=1, constant=-1), eps=Power(alpha=-1)),
        Role.FINAL_NORM_GAIN: Row(),
        Role.UNEMBEDDING: Row(
            init_variance=Power(width=-2), learning_rate=Power(width=-1), weight_decay=Power(width=1)
        ),
    }
)
"""Complete(d)P (arXiv 2512.22382), Table 1 [L], for AdamW as in PyTorch, whose decay is multiplied by the
learning rate. Batch and duration are apart: `training.logical_batch`.
"""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TensorRule:
    """Initialization N(`init_mean`, `init_std`²) and optimizer factors of one tensor."""

    role: Role
    init_mean: float
    init_std: float
    learning_rate: float = 1.0
    eps: float = 1.0
    weight_decay: float = 1.0


class Parametrization(ABC):
    """Maps a tensor's name and the network's size to its initialization and optimizer factors."""

    @property
    def source(self) -> str:
        """Where its rules come from, with their status."""
        return f"{type(self).__name__}'s own"

    def explain(self, *, width: int, depth: int, head_dim: int) -> tuple[Derived, ...]:
        """Return the intermediate numbers of the rules; none by default."""
        return ()

    @abstractmethod
    def check(self, *, width: int, num_heads: int) -> None:
        """Raise UserError if the rules do not cover a network of this size."""

    @abstractmethod
    def residual_multiplier(self, depth: int) -> float:
        """c in h + c · branch(h): part of the network's function."""

    @abstractmethod
    def row(self, role: Role) -> Row:
        """Return the factors of a role, as formulas."""

    @abstractmethod
    def rule(self, name: str, *, width: int, depth: int) -> TensorRule:
        """Return the rule of the parameter `name`. UserError if it has no role."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Standard(Parametrization):
    """The standard one: N(0, 1/fan_in), residual outputs divided by √(2·depth) [L: GPT-2], one learning rate,
    ε and decay for all tensors. What is best for one size is not for another.

    The embedding is N(0, 1), gains start at 1. The unembedding starts at 0 [D], so that the first
    prediction is uniform: NELBO = ln V per token.
    """

    @property
    def source(self) -> str:
        return "the usual [L]"

    def check(self, *, width: int, num_heads: int) -> None:
        """Accept any size."""

    def residual_multiplier(self, depth: int) -> float:
        return 1.0

    def row(self, role: Role) -> Row:
        return Row()

    def rule(self, name: str, *, width: int, depth: int) -> TensorRule:
        role = role_of(name)
        std = _init_std(name, role, width=width, depth=depth)
        return TensorRule(role=role, init_mean=float(role in _GAINS), init_std=std)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CompletedP(Parametrization):
    """Complete(d)P (arXiv 2512.22382, Table 1) [L]: values tuned at the base size hold at any width and
    depth.

    m_N is the ratio of fan-ins for a hidden weight, of widths for all other tensors. They differ for the
    feed-forward's `down` alone, whose fan-in is 8/3 · width rounded up to 32 [D]: with its own ratio it
    starts at 1/√fan_in exactly, whatever the rounding. m_L is the ratio of depths; the residual branches are
    multiplied by m_L^-α. The base starts as `Standard` does at the base size, so that the 1/√(2·depth) of its
    residual outputs is a constant.

    The head dimension is fixed, and heads are added [D]: q · k / √head_dim is then the same at any width, and
    a QK-norm gain has no m_N, as in the table.

    Attributes:
        base_width, base_depth, base_num_heads: the size at which the optimizer's values were tuned.
        alpha: in [1/2, 1]. With 1, each block learns features of its own at any depth.
    """

    base_width: int
    base_depth: int
    base_num_heads: int
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if min(self.base_width, self.base_depth, self.base_num_heads) < 1:
            raise UserError(
                f"base_width {self.base_width}, base_depth {self.base_depth}, base_num_heads "
                f"{self.base_num_heads}: each must be at least 1"
            )
        if self.base_width % self.base_num_heads:
            raise UserError(
                f"base_width {self.base_width} is not a multiple of base_num_heads {self.base_num_heads}"
            )
        if not 0.5 <= self.alpha <= 1:
            raise UserError(f"alpha {self.alpha}: the depth exponent must be in [0.5, 1]")

    @property
    def source(self) -> str:
        return TABLE_1

    def explain(self, *, width: int, depth: int, head_dim: int) -> tuple[Derived, ...]:
        return (
            Derived(
                name="m_N",
                value=width / self.base_width,
                rule=f"width {width} / {self.base_width} of the base, head dimension held at {head_dim}",
                source=TABLE_1,
            ),
            Derived(
                name="m_L",
                value=self.depth_ratio(depth),
                rule=f"depth {depth} / {self.base_depth} of the base",
                source=TABLE_1,
            ),
            Derived(
                name="residual multiplier",
                value=self.residual_multiplier(depth),
                rule=f"m_L^-α with α = {self.alpha:g}",
                source=TABLE_1,
            ),
        )

    def check(self, *, width: int, num_heads: int) -> None:
        head_dim = self.base_width // self.base_num_heads
        if width != num_heads * head_dim:
            fix = (
                f"use num_heads {width // head_dim}"
                if width % head_dim == 0
                else f"use a width that is a multiple of {head_dim}"
            )
            raise UserError(
                f"width {width} with num_heads {num_heads}: Complete(d)P holds the base's head dimension of "
                f"{head_dim}: {fix}"
            )

    def residual_multiplier(self, depth: int) -> float:
        return self.depth_ratio(depth) ** -self.alpha

    def width_ratio(self, name: str, width: int) -> float:
        """m_N of the parameter `name`."""
        return _fan_in(name, width) / _fan_in(name, self.base_width)

    def depth_ratio(self, depth: int) -> float:
        """m_L."""
        return depth / self.base_depth

    def row(self, role: Role) -> Row:
        return COMPLETED_P[role]

    def rule(self, name: str, *, width: int, depth: int) -> TensorRule:
        role, m_n, m_l = role_of(name), self.width_ratio(name, width), self.depth_ratio(depth)
        row, base = self.row(role), _init_std(name, role, width=self.base_width, depth=self.base_depth)

        def factor(power: Power) -> float:
            return power.value(width_ratio=m_n, depth_ratio=m_l, alpha=self.alpha)

        return TensorRule(
            role=role,
            init_mean=float(role in _GAINS),
            init_std=base * math.sqrt(factor(row.init_variance)),
            learning_rate=factor(row.learning_rate),
            eps=factor(row.eps),
            weight_decay=factor(row.weight_decay),
        )


def _fan_in(name: str, width: int) -> int:
    return feed_forward_width(width) if name.endswith("feed_forward.down.weight") else width


def _init_std(name: str, role: Role, *, width: int, depth: int) -> float:
    if role is Role.INPUT_EMBEDDING:
        return 1.0
    if role is not Role.HIDDEN_WEIGHT:
        return 0.0
    std = _fan_in(name, width) ** -0.5
    is_residual_output = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
    return std / math.sqrt(2 * depth) if is_residual_output else std
