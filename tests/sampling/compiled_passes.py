"""A script: passes of compiled blocks, recorded and not, against plain ones. Prints as JSON how far
log-probabilities are off, and how much code was made for the first batches and for later ones.
"""

import json

import torch
from torch._dynamo.utils import counters

from generation.fakes import random_denoiser
from sampling.recorder import Recorder
from sampling.test_sampler_loop import DOCUMENTS
from trimask.sampling import CompiledPredictor, DenoiserPredictor, Predictor
from trimask.vocabulary.batch import Batch, make_batch


def log_probabilities(predictor: Predictor, batch: Batch) -> list[torch.Tensor]:
    prediction = predictor(batch.tokens, batch)
    ranges = range(len(predictor.vocabulary.ranges))
    slots = [(batch.range_index.flatten() == index).nonzero()[:, 0] for index in ranges]
    return [prediction(where, index) for index, where in enumerate(slots) if len(where)]


@torch.inference_mode()
def main() -> None:
    denoiser, recorder, off = random_denoiser(), Recorder(), 0.0
    plain = DenoiserPredictor(denoiser)
    compiled = CompiledPredictor(denoiser, record=recorder)
    graphs = []
    for members in ((0, 2), (3, 4, 5), (1, 2, 3), (5, 0, 0, 4)):
        batch = make_batch([DOCUMENTS[k] for k in members], range(len(members)))
        for _ in range(3):
            pairs = zip(log_probabilities(compiled, batch), log_probabilities(plain, batch), strict=True)
            off = max([off, *(float((a - b).abs().max()) for a, b in pairs)])
        graphs.append(counters["stats"]["unique_graphs"])
    found = {"off": off, "replays": recorder.num_replays}
    print(json.dumps(found | {"graphs_early": graphs[1], "graphs_late": graphs[-1]}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
