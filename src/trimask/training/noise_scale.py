"""The gradient noise scale, from gradients at two batch sizes [L: McCandlish et al. 2018, appendix A].

A gradient over B sequences has E|G_B|² = |G|² + tr Σ / B, so two batch sizes give both parts. B_simple = tr Σ
/ |G|² is the batch at which noise and signal are equal: well below it, doubling the batch doubles the
progress per update; well above it hardly helps. It holds at one point of one run, and grows as the loss
falls.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from trimask.errors import UserError
from trimask.training.step import DenoiserStep
from trimask.vocabulary.batch import Batch

TOTAL = "all"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseScale:
    """The noise scale estimated from pairs of squared gradient norms.

    Attributes:
        squared_gradient: estimate of |G|² of the true gradient. Noise may make it negative.
        noise: estimate of tr Σ, the trace of one sequence's gradient covariance.
        batch: B_simple = tr Σ / |G|² in sequences; infinite unless |G|² > 0.
        standard_error: of `batch`, by the jackknife over the pairs; infinite if fewer than two or if leaving
            one out makes |G|² vanish.
        num_pairs: how many pairs were averaged.
    """

    squared_gradient: float
    noise: float
    batch: float
    standard_error: float
    num_pairs: int


def estimate_noise_scale(
    small: Sequence[float], large: Sequence[float], *, small_batch: int, large_batch: int
) -> NoiseScale:
    """|G|² = (B₂|G₂|² − B₁|G₁|²) / (B₂ − B₁), tr Σ = (|G₁|² − |G₂|²) / (1/B₁ − 1/B₂).

    `small`, `large`: |G₁|² and |G₂|² of each pair. Both are averaged over the pairs before anything is
    divided: a mean of ratios would be biased.

    Raises:
        UserError: batches that are not B₁ < B₂, or lists of different or no length.
    """
    if not 1 <= small_batch < large_batch:
        raise UserError(f"batches of {small_batch} and {large_batch}: the first must be the smaller")
    if not small or len(small) != len(large):
        raise UserError(f"{len(small)} and {len(large)} squared norms: give as many of each, at least one")
    pairs = torch.tensor([list(small), list(large)], dtype=torch.float64).T
    total, count = pairs.sum(0), len(pairs)

    def moments(means: Float64[Tensor, "2"]) -> tuple[float, float]:
        first, second = means.tolist()
        squared = (large_batch * second - small_batch * first) / (large_batch - small_batch)
        return squared, (first - second) / (1 / small_batch - 1 / large_batch)

    squared, noise = moments(total / count)
    left_out = [_ratio(*moments((total - pair) / (count - 1))) for pair in pairs] if count > 1 else []
    return NoiseScale(
        squared_gradient=squared,
        noise=noise,
        batch=_ratio(squared, noise),
        standard_error=_jackknife(left_out),
        num_pairs=count,
    )


def measure_noise_scale(
    losses: Callable[[int], Mapping[str, Tensor]],
    parameters: Iterable[nn.Parameter],
    *,
    batch: int,
    num_small: int,
    num_pairs: int,
) -> dict[str, NoiseScale]:
    """Measure the noise scale of each named loss, and of their sum (`TOTAL`).

    `losses(i)` returns the losses of the i-th batch of `batch` sequences, independent of all others; a
    missing loss counts as 0. Each pair takes `num_small` of them: |G₁|² is the mean of their squared norms,
    and G₂ the mean of their gradients. Memory: a gradient for each name beside the parameters.
    """
    if num_small < 2 or num_pairs < 1:
        raise UserError(f"num_small {num_small} must be at least 2, and num_pairs {num_pairs} at least 1")
    chosen = [parameter for parameter in parameters if parameter.requires_grad]
    small: dict[str, list[float]] = {}
    large: dict[str, list[float]] = {}
    for pair in range(num_pairs):
        sums: dict[str, list[Tensor]] = {}
        norms: dict[str, float] = {}
        for number in range(num_small):
            gradients = _gradients(losses(pair * num_small + number), chosen)
            for name, gradient in gradients.items():
                norms[name] = norms.get(name, 0.0) + _squared(gradient) / num_small
                before = sums.get(name)
                sums[name] = (
                    gradient if before is None else [a + b for a, b in zip(before, gradient, strict=True)]
                )
        for name, gradient in sums.items():
            # A name that appears for the first time was 0 in all earlier pairs.
            small.setdefault(name, [0.0] * pair).append(norms[name])
            large.setdefault(name, [0.0] * pair).append(_squared(gradient) / num_small**2)
        for name in small.keys() - sums.keys():
            small[name].append(0.0)
            large[name].append(0.0)
    return {
        name: estimate_noise_scale(small[name], large[name], small_batch=batch, large_batch=batch * num_small)
        for name in small
    }


def measure_denoiser_noise_scale(
    step: DenoiserStep, batches: Callable[[int], Batch], *, num_small: int, num_pairs: int
) -> dict[str, NoiseScale]:
    """Measure the noise scale at the denoiser's current weights: of the training loss, and of each modality's
    part.

    `batches(i)` is batch i of a stream, all of one size; each is masked like an update of its own. Nothing is
    updated. Low-discrepancy times make a batch slightly less noisy than independent sequences: measure with
    the batch that will be used.
    """

    def losses(index: int) -> dict[str, Tensor]:
        return step.losses(batches(index), index)

    size = batches(0).num_sequences * step.passes.num_views  # as batches are counted
    return measure_noise_scale(
        losses, step.denoiser.parameters(), batch=size, num_small=num_small, num_pairs=num_pairs
    )


def _gradients(losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> dict[str, list[Tensor]]:
    """Return the gradients of each loss, and of their sum."""
    found: dict[str, list[Tensor]] = {}
    total: list[Tensor] = [torch.zeros_like(parameter) for parameter in parameters]
    for number, (name, loss) in enumerate(losses.items(), 1):
        gradient = torch.autograd.grad(
            loss,
            parameters,
            retain_graph=number < len(losses),
            allow_unused=True,
            materialize_grads=True,
        )
        found[name] = list(gradient)
        total = [a + b for a, b in zip(total, gradient, strict=True)]
    return found | {TOTAL: total}


def _squared(gradient: Sequence[Tensor]) -> float:
    return float(torch.stack([part.double().square().sum() for part in gradient]).sum())


def _ratio(squared: float, noise: float) -> float:
    return noise / squared if squared > 0 else math.inf


def _jackknife(values: Sequence[float]) -> float:
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.inf
    mean = sum(values) / len(values)
    return math.sqrt((len(values) - 1) / len(values) * sum((value - mean) ** 2 for value in values))
