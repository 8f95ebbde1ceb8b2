"""AdamW with per-tensor factors, and its state as a flat dictionary of tensors keyed by parameter name."""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimask.devices import gather
from trimask.errors import UserError

# State of torch's AdamW per parameter (without amsgrad, which is not used).
_MOMENTS = ("exp_avg", "exp_avg_sq")
_STATE = ("step", *_MOMENTS)
_FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


class NonFinite(enum.Enum):
    """What to do if a gradient is not finite: stop the run, or skip the update, which is counted and
    reported.
    """

    STOP = "stop"
    SKIP = "skip"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class AdamWConfig:
    """AdamW as in PyTorch: the weight decay is multiplied by the learning rate.

    `clip_norm` bounds the global gradient norm, which scales with the loss; None does not clip. All defaults
    but the learning rate are customary in language-model pretraining [D].
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float | None = 1.0

    def __post_init__(self) -> None:
        for name, is_valid in (
            ("learning_rate", self.learning_rate > 0),
            ("beta1", 0 <= self.beta1 < 1),
            ("beta2", 0 <= self.beta2 < 1),
            ("eps", self.eps > 0),
            ("weight_decay", self.weight_decay >= 0),
            ("clip_norm", self.clip_norm is None or self.clip_norm > 0),
        ):
            if not is_valid:
                raise UserError(f"{name} is out of range: {getattr(self, name)}")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterFactors:
    """Factors that a parametrization (Complete(d)P) applies to the optimizer's base values for one tensor."""

    learning_rate: float = 1.0
    eps: float = 1.0
    weight_decay: float = 1.0


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterGroup:
    """Named parameters that share their factors."""

    factors: ParameterFactors
    parameters: tuple[tuple[str, nn.Parameter], ...]


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    factors: Callable[[str], ParameterFactors] = lambda name: ParameterFactors(),
) -> tuple[ParameterGroup, ...]:
    """Group trainable parameters by equal factors, in order of first occurrence."""
    grouped: dict[ParameterFactors, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            grouped.setdefault(factors(name), []).append((name, parameter))
    return tuple(ParameterGroup(factors=key, parameters=tuple(members)) for key, members in grouped.items())


def build_adamw(groups: Iterable[ParameterGroup], config: AdamWConfig) -> torch.optim.AdamW:
    """Build an AdamW over the groups, with base values times factors; fused if the device supports it.

    Its state (all zeros, as AdamW starts) exists before the first step, so that a checkpoint can be read into
    it.
    """
    groups = tuple(groups)
    parameters = [parameter for group in groups for _, parameter in group.parameters]
    if not parameters:
        raise UserError("there is no trainable parameter to optimize")
    torch_groups: list[dict[str, Any]] = [
        {
            "params": list(group.parameters),
            "lr": config.learning_rate * group.factors.learning_rate,
            "base_learning_rate": config.learning_rate * group.factors.learning_rate,
            "eps": config.eps * group.factors.eps,
            "weight_decay": config.weight_decay * group.factors.weight_decay,
        }
        for group in groups
    ]
    is_fused = all(p.device.type in _FUSED_DEVICES and p.is_floating_point() for p in parameters)
    optimizer = torch.optim.AdamW(torch_groups, betas=(config.beta1, config.beta2), fused=is_fused)
    for parameter in parameters:
        # The plain kernels count steps on the host.
        step = torch.zeros((), dtype=torch.float32, device=parameter.device if is_fused else "cpu")
        moments = {part: torch.zeros_like(parameter, requires_grad=False) for part in _MOMENTS}
        optimizer.state[parameter] = {"step": step, **moments}
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to `factor` (from the schedule) times its base learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_learning_rate"] * factor


def clip_gradients(optimizer: torch.optim.Optimizer, clip_norm: float | None) -> Float[Tensor, ""]:
    """Scale all gradients to a global norm of at most `clip_norm`; return the norm before."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    # With sharded gradients, each process has only its part of the norm.
    return gather(norm).detach()


def skip_unless_finite(optimizer: torch.optim.AdamW, grad_norm: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Make the next update a no-op, including moments and step counts, if `grad_norm` is not finite; return 1
    then, else 0. Does not wait for the device.
    """
    assert optimizer.defaults["fused"], "only the fused kernels can leave out an update"
    # The flag of torch's gradient scaler, which the kernel reads on the device.
    skipped = (~grad_norm.isfinite()).float()
    optimizer.found_inf = skipped  # pyright: ignore[reportAttributeAccessIssue]  (no public name)
    return skipped


def optimizer_tensors(optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """Return the state as `{parameter name}.{step | exp_avg | exp_avg_sq}`, without learning rates, which the
    schedule sets."""
    return {
        f"{name}.{part}": optimizer.state[parameter][part]
        for name, parameter in _named(optimizer)
        for part in _STATE
    }


def load_optimizer_tensors(optimizer: torch.optim.AdamW, tensors: Mapping[str, Tensor]) -> None:
    """Load the result of `optimizer_tensors` in place; UserError if names or shapes differ."""
    own = optimizer_tensors(optimizer)
    named = dict(_named(optimizer))
    unknown = sorted(key for key in tensors if key.rpartition(".")[0] not in named)
    if unknown:
        raise UserError(f"optimizer state of parameters that the model lacks: {', '.join(unknown[:3])}")
    for key, tensor in own.items():
        if key not in tensors or tensors[key].shape != tensor.shape:
            name = key.rpartition(".")[0]
            shape = tuple(named[name].shape)
            raise UserError(f"optimizer state of {name} is incomplete or has another shape than {shape}")
    for key, tensor in own.items():
        tensor.copy_(tensors[key])


def _named(optimizer: torch.optim.Optimizer) -> Iterable[tuple[str, nn.Parameter]]:
    for group in optimizer.param_groups:
        yield from zip(group["param_names"], group["params"], strict=True)
