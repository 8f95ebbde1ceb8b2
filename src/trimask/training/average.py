"""An exponential moving average of the weights; a run that keeps one is evaluated and exported with it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trimask.errors import UserError


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class WeightAverageConfig:
    """The average's half-life, in sequences, so that it is the same at any physical batch (EDM) [L].

    Attributes:
        half_life: sequences after which a weight's contribution halves.
        ramp_up: upper bound on the half-life as a share of the sequences so far, so that the first weights
            are soon forgotten [L: EDM, 0.05].
    """

    half_life: float
    ramp_up: float = 0.05

    def __post_init__(self) -> None:
        if not self.half_life > 0:
            raise UserError(f"half_life {self.half_life}: give a number of sequences above 0")
        if not 0 < self.ramp_up <= 1:
            raise UserError(f"ramp_up {self.ramp_up}: give a share above 0, and at most 1")

    def decay(self, *, batch: int, step: int) -> float:
        """Return the decay factor of the average at update `step` (from 1) of `batch` sequences."""
        return 0.5 ** (batch / min(self.half_life, self.ramp_up * batch * step))


@final
class WeightAverage:
    """The average of named parameters, each beside its parameter: sharded as it is, on its device."""

    def __init__(
        self,
        config: WeightAverageConfig,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        batch: int,
    ):
        self.config = config
        self.batch = batch
        self._parameters = dict(named_parameters)
        self._averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after update `step` (from 1) to the average."""
        mix = get_ema_multi_avg_fn(self.config.decay(batch=self.batch, step=step))
        mix(list(self._averages.values()), list(self._parameters.values()), step)

    @contextmanager
    def use(self) -> Iterator[None]:
        """Use the average in place of the weights inside `with`."""
        weights = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        _copy(self._averages, self._parameters)
        try:
            yield
        finally:
            _copy(weights, self._parameters)

    def tensors(self) -> dict[str, Tensor]:
        """Return the average by parameter name."""
        return dict(self._averages)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Inverse of `tensors`."""
        _copy(tensors, self._averages)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])
