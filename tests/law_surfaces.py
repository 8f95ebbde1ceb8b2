"""Surfaces whose law is known, and tables of runs on them."""

from collections.abc import Mapping

import numpy as np

TRUTH = {"E": 2.17, "A": 30.0, "B": 40.0, "alpha": 0.292, "beta": 0.367}
ASYMMETRIC = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.465, "beta": 0.155}
"""A surface of Czech et al. (arXiv 2603.22339)."""


def grid(*, sizes: int = 5, span: float = 32.0, lengths: int = 5) -> dict[str, np.ndarray]:
    """Sizes × lengths over a factor of `span` in each."""
    n = np.geomspace(40e3, 40e3 * span, sizes)
    d = np.geomspace(70e3, 70e3 * span, lengths)
    return dict(zip(("n", "d"), (axis.ravel() for axis in np.meshgrid(n, d)), strict=True))


def loss_of(inputs: Mapping[str, np.ndarray], truth: Mapping[str, float] = TRUTH) -> np.ndarray:
    by_size = truth["A"] / inputs["n"] ** truth["alpha"]
    return truth["E"] + by_size + truth["B"] / inputs["d"] ** truth["beta"]


def with_noise(losses: np.ndarray, noise: float, seed: int) -> np.ndarray:
    return losses * np.exp(noise * np.random.default_rng(seed).normal(size=len(losses)))
