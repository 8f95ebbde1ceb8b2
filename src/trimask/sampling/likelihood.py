"""The exact likelihood of a sampler: a sampler with a fixed law is a distribution over sequences.

If what a step reveals depends only on what is revealed already,

    q(x) = Π over steps Π over slots revealed in the step p(x_i | revealed before),

with one teacher-forced pass per step. Nats per token on real data rank orders, grids, counts and precisions
without samples and judges. For an order with randomness of its own, the mean over its noise is an upper bound
of −log q.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from trimask.errors import UserError
from trimask.estimate import Estimate, ratio
from trimask.sampling.config import SamplerConfig
from trimask.sampling.guidance import Guidance
from trimask.sampling.predictor import Predictor
from trimask.sampling.row import make_rows
from trimask.sampling.sampler import unmask
from trimask.vocabulary.layout import TokenRange
from trimask.vocabulary.sequence import Sequence


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class SamplerLikelihood:
    """−log q of documents under a sampler.

    Attributes:
        nats: by modality, of all targets of each document.
        num_tokens: by modality, the targets of each document.
        num_passes: passes that each document took.
    """

    nats: Mapping[str, Float64[np.ndarray, "documents"]]
    num_tokens: Mapping[str, Int[np.ndarray, "documents"]]
    num_passes: Int[np.ndarray, "documents"]

    def nats_per_token(self, modality: str | None = None) -> Estimate:
        """Return nats per token, a ratio of sums over documents, with its interval; of all targets, or of
        one modality.
        """
        chosen = list(self.nats) if modality is None else [modality]
        nats = np.sum([self.nats[name] for name in chosen], axis=0)
        tokens = np.sum([self.num_tokens[name] for name in chosen], axis=0)
        return ratio(nats, tokens.astype(np.float64))


def measure_sampler_likelihood(
    predictor: Predictor,
    documents: Rows[Sequence],
    config: SamplerConfig,
    *,
    seed: int = 0,
    keys: Rows[int] | None = None,
    guidance: Rows[Guidance] | None = None,
    batch_size: int = 16,
) -> SamplerLikelihood:
    """Compute −log q(document) of each document under the sampler `config`, given the noise of its order.

    Filters and guidance are parts of q: a filter that drops a document's code makes it infinite.

    Args:
        documents: with clean tokens at their targets.
        seed, keys: name the random streams of orders, as in `sample`.
        guidance: what guides each document beside its own conditions.

    Raises:
        UserError: the sampler has no exact likelihood: its order looks at drawn codes, or it corrects.
    """
    if not config.has_likelihood:
        law = next(law for law in reversed(config.laws) if not law.has_likelihood)
        raise UserError(
            "this sampler has no exact likelihood: its order looks at drawn codes, or it has a corrector "
            f"({law.order!r}, {law.corrector!r}). Choose Random or another order that looks at the "
            "prediction alone, and no corrector"
        )
    vocabulary = predictor.vocabulary
    nats = {name: np.zeros(len(documents)) for name in vocabulary.modalities}

    def take_clean(
        log_probabilities: Float[Tensor, "n codes"],
        *,
        uniforms: Float64[np.ndarray, "n"],
        clean: Int[Tensor, "n"],
        row: Int[np.ndarray, "n"],
        token_range: TokenRange,
    ) -> Int[Tensor, "n"]:
        log_p = torch.log_softmax(log_probabilities.double(), dim=1).gather(1, clean[:, None])[:, 0]
        np.add.at(nats[token_range.modality], row, -log_p.cpu().numpy())
        return clean

    rows = make_rows(vocabulary, documents, config, seed=seed, keys=keys, guidance=guidance)
    counts = {name: np.zeros(len(documents), dtype=np.int64) for name in vocabulary.modalities}
    for row in rows:
        for track in row.tracks:
            counts[track.canvas.modality][row.place] = track.canvas.num_slots
    for _ in unmask(predictor, rows, batch_size=batch_size, fill=take_clean):
        pass
    present = [name for name, count in counts.items() if count.any()]
    return SamplerLikelihood(
        nats={name: nats[name] for name in present},
        num_tokens={name: counts[name] for name in present},
        num_passes=np.array([row.num_passes for row in rows]),
    )
