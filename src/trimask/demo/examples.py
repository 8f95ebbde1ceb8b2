"""Choose the examples that a demo shows: some that a run has seen in training, and some that it has not."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, final

from trimask import rng
from trimask.data.mixture import Mixture
from trimask.data.selection import QuickstartData
from trimask.data.source_names import EMOJI, SPOKEN
from trimask.datasets.quickstart import CaptionedImage, Utterance, load_speech
from trimask.runs.embedded import pictures, select_speech
from trimask.runs.embedded_tokens import load_encoded
from trimask.training.run import RunConfig

_Row = TypeVar("_Row")


@final
@dataclass(frozen=True, kw_only=True)
class Examples:
    """The real examples that a demo shows beside generated ones."""

    seen: Sequence[CaptionedImage]
    compositions: Sequence[CaptionedImage]
    unseen: Sequence[CaptionedImage]
    seen_speech: Sequence[Utterance]
    unseen_speech: Sequence[Utterance]


@final
@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Indices of the training pictures and utterances that a run has drawn so far, in their sources."""

    pictures: Collection[int]
    utterances: Collection[int]


def find_drawn(config: RunConfig, tokens: Path, *, num_updates: int) -> Drawn:
    """Find the examples that the first updates of a run on the embedded data have drawn.

    Args:
        tokens: the run's folder of encoded data.
    """
    mixture = Mixture(config.mixture, load_encoded(tokens, "train"), config.seed)
    found: dict[str, set[int]] = {EMOJI: set(), SPOKEN: set()}
    for index in range(num_updates * config.update_batch):
        component, example = mixture.example(index)
        if component.source in found:
            found[component.source].add(example)
    return Drawn(pictures=found[EMOJI], utterances=found[SPOKEN])


def draw_examples(
    data: QuickstartData, *, seed: int, num_images: int, num_clips: int, drawn: Drawn | None = None
) -> Examples:
    """Draw `num_images` seen pictures, half as many compositions and unseen ones, and `num_clips` utterances.

    Args:
        drawn: the examples that count as seen; by default all of the training data.
    """
    train = pictures("train", data)
    bases = {row.base for row in train}
    if drawn is not None:
        train = [row for number, row in enumerate(train) if number in drawn.pictures]
    plain = [row for row in train if row.hexcode == row.base] or train
    others = pictures("composition", data) if data.has_variants else []
    unseen = [row for row in pictures("validation", data) if row.hexcode == row.base]
    speech = select_speech(load_speech("train"), data, bases)
    if drawn is not None:
        speech = [row for number, row in enumerate(speech) if number in drawn.utterances]
    sentences = [row for row in speech if row.kind == "sentence"]
    captions = [row for row in speech if row.kind == "caption"]
    held_out = [
        row for row in select_speech(load_speech("validation"), data, set()) if row.kind == "sentence"
    ]

    def pick(rows: Sequence[_Row], count: int, name: str) -> list[_Row]:
        order = rng.generator(seed, "demo", name).permutation(len(rows))
        return [rows[i] for i in order[:count].tolist()]

    few = num_clips // 2
    return Examples(
        seen=pick(plain, num_images, "seen"),
        compositions=pick(others, num_images // 2, "composition"),
        unseen=pick(unseen, num_images // 2, "unseen"),
        seen_speech=pick(captions, few, "captions") + pick(sentences, num_clips - few, "sentences"),
        unseen_speech=pick(held_out, num_clips - 1, "held-out"),
    )


def plain_caption(rows: Sequence[CaptionedImage]) -> str:
    """Return the caption that is easiest to type: of letters and spaces only, and close to two words."""
    captions = [row.caption for row in rows]
    plain = [caption for caption in captions if caption.replace(" ", "").isalpha() and caption.isascii()]
    return min(plain or captions, key=lambda caption: abs(len(caption.split()) - 2))
