"""The reverse process: probabilities of revealing a masked token, or masking a revealed one, in a step from t
to s < t."""

import torch
from jaxtyping import Float
from torch import Tensor

from trimask.diffusion.schedule import Schedule


def unmask_probability(
    schedule: Schedule, *, s: Float[Tensor, "*shape"], t: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """P(a token masked at t is revealed by s) = (alpha(s) - alpha(t)) / (1 - alpha(t)), for s <= t (MDLM)
    [L].

    It is 1 for s = 0, so the last step leaves no masks; and 0 at t = 0, where nothing is masked.
    """
    now = schedule.mask_ratio(t)
    revealed = (now - schedule.mask_ratio(s)) / torch.where(now > 0, now, torch.ones_like(now))
    return revealed.clamp(0.0, 1.0)


def remask_limit(
    schedule: Schedule, *, s: Float[Tensor, "*shape"], t: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """The largest re-masking probability that keeps the marginals: min(1, (1 - alpha(s)) / alpha(t))
    (ReMDM) [L]."""
    hidden, visible = schedule.mask_ratio(s), schedule.alpha(t)
    return torch.where(hidden < visible, hidden / visible, torch.ones_like(hidden))


def remask_probabilities(
    schedule: Schedule,
    *,
    s: Float[Tensor, "*shape"],
    t: Float[Tensor, "*shape"],
    sigma: Float[Tensor, "*shape"],
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """(P(reveal a masked token), P(re-mask a revealed one)) for a step from t to s with re-masking `sigma`
    (ReMDM) [L].

    reveal = (alpha(s) - (1 - sigma) alpha(t)) / (1 - alpha(t)); re-mask = sigma, cut at `remask_limit`.
    Each sigma leaves P(visible at s) = alpha(s); sigma = 0 is `unmask_probability`.
    """
    remask = torch.minimum(sigma, remask_limit(schedule, s=s, t=t))
    now, then = schedule.mask_ratio(t), schedule.mask_ratio(s)
    revealed = now - then + remask * (1 - now)
    return (revealed / torch.where(now > 0, now, torch.ones_like(now))).clamp(0.0, 1.0), remask
