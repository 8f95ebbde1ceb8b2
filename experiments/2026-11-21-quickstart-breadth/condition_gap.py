"""Does a run use its conditions? `python condition_gap.py RUN`: NELBO in bits per token of 32 training (and
held-out) pairs, with the condition, with it hidden, and with another example's.
"""

import sys
from pathlib import Path

import trimask
from trimask import rng
from trimask.data.tokens import TokenSource
from trimask.evaluation.likelihood import bound
from trimask.sampling.predictor import DenoiserPredictor
from trimask.vocabulary.modality import CONDITION, Modality, Task
from trimask.vocabulary.sequence import build_sequence

NUM_PAIRS, NUM_MASKS, SEED = 32, 4, 0


def gap(run: Path, tokens: str, task: Task, target: Modality, num_end: int) -> str:
    predictor = trimask.load(run).predictor
    assert isinstance(predictor, DenoiserPredictor)
    denoiser = predictor.denoiser
    source = TokenSource.load(run / "tokens" / f"{tokens}.safetensors")
    chosen = rng.generator(SEED, "gap").permutation(len(source))[:NUM_PAIRS]
    condition = CONDITION[task]
    assert condition is not None
    right = [source.example(int(i)) for i in chosen]
    wrong = [{**e, condition: o[condition]} for e, o in zip(right, right[1:] + right[:1], strict=True)]
    figures = []
    for name, examples, is_hidden in (
        ("own", right, False),
        ("hidden", right, True),
        ("another's", wrong, False),
    ):
        pairs = [build_sequence(denoiser.vocabulary, task, e, num_end={target: num_end}) for e in examples]
        value = bound(denoiser, pairs, seed=SEED, num_masks=NUM_MASKS, is_unconditional=is_hidden)
        figures.append(f"{name} {value.bits_per_token:.2f} ± {value.standard_error:.2f}")
    return f"{task.value:15} {tokens:18} {'   '.join(figures)}"


if __name__ == "__main__":
    run = Path(sys.argv[1])
    print(gap(run, "train-emoji", Task.TEXT_TO_IMAGE, Modality.IMAGE, 0))
    print(gap(run, "validation-emoji", Task.TEXT_TO_IMAGE, Modality.IMAGE, 0))
    print(gap(run, "train-spoken", Task.TEXT_TO_SPEECH, Modality.AUDIO, 4))
