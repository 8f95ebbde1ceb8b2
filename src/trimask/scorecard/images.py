"""Score pictures: their agreement with their captions, and their distance to real pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, UInt8

from trimask import rng
from trimask.evaluation import text as words
from trimask.evaluation.distances import frechet, kernel, min_frechet_examples
from trimask.evaluation.image import Agreement, agreement, lab_features
from trimask.evaluation.judges.panel import Panel
from trimask.evaluation.retrieval import fit_linear_map, retrieval
from trimask.generation.generate import Generator
from trimask.media.encoded import Picture, decode_pixels, pixels_at
from trimask.pixels import to_pixels
from trimask.scorecard.examples import DecodedPicture
from trimask.vocabulary.tokenizer import ImageCodec

LAB = "LAB32"
"""Name of the features without a network: CIE L*a*b* pixels at 32 x 32."""
_LEAST = 4  # minimum number of pictures in a set
Features = Callable[[UInt8[np.ndarray, "n h w 3"]], Float[np.ndarray, "n d"]]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Pictures for some captions: generated, real, and real after the tokenizer's round trip.

    If only codes were kept (`DecodedPicture`), `real` is what they decode to, the same as `round_trip`.
    """

    chosen: Sequence[Picture]
    generated: UInt8[np.ndarray, "n size size 3"]
    real: UInt8[np.ndarray, "n real_size real_size 3"]
    round_trip: UInt8[np.ndarray, "n size size 3"]

    @property
    def kinds(self) -> Mapping[str, UInt8[np.ndarray, "n _h _w 3"]]:
        """The sets of pictures by their names in scores; `real` is left out if it equals the round trip."""
        found = {"generated": self.generated, "round_trip": self.round_trip, "real": self.real}
        return {name: found[name] for name in found if name != "real" or self.real is not self.round_trip}


def pixels_of(rows: Sequence[Picture]) -> UInt8[np.ndarray, "n h w 3"]:
    """Stack the pixels of pictures."""
    return np.stack([row.pixels() for row in rows])


@torch.inference_mode()
def reconstruct(tokenizer: ImageCodec, pixels: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w 3"]:
    """Encode and decode pictures (at the tokenizer's size): the ceiling of a model over its codes."""
    batches = [pixels[start : start + 64] for start in range(0, len(pixels), 64)]
    return decode_pixels(tokenizer, torch.cat([tokenizer.encode(to_pixels(batch)) for batch in batches]))


def make_pictures(
    generator: Generator, tokenizer: ImageCodec, chosen: Sequence[Picture], *, seed: int
) -> Pictures:
    """Generate a picture for the caption of each of `chosen`, with its real picture and round trip."""
    made = generator.generate_many("text_to_image", [row.caption for row in chosen], seed=seed)
    images = [result.image for result in made]
    real = pixels_of(chosen)
    if all(isinstance(row, DecodedPicture) for row in chosen):
        round_trip = real
    else:
        round_trip = reconstruct(
            tokenizer, np.stack([pixels_at(row, tokenizer.image_size) for row in chosen])
        )
    return Pictures(
        chosen=chosen,
        generated=np.stack([np.asarray(image.convert("RGB")) for image in images if image is not None]),
        real=real,
        round_trip=round_trip,
    )


def gallery_features(rows: Sequence[Picture]) -> Float[np.ndarray, "n features"]:
    """Compute the features of a gallery, in parts, since decoded pictures are large."""
    return np.concatenate([lab_features(pixels_of(rows[i : i + 256])) for i in range(0, len(rows), 256)])


def score_images(
    made: Pictures,
    gallery: Sequence[Picture],
    features: Float[np.ndarray, "m features"],
    *,
    seed: int,
) -> dict[str, Any] | None:
    """Measure the agreement of generated pictures with their originals in `gallery`.

    Args:
        features: `gallery_features` of the gallery.

    Returns:
        `generated`; `shuffled`, the floor; `ceiling`, the round trip. None for fewer than two pictures.
    """
    if len(made.chosen) < 2 or len(gallery) < 2:
        return None
    place = {row.key: number for number, row in enumerate(gallery)}
    own = np.array([place[row.key] for row in made.chosen])
    scores: dict[str, Agreement] = {
        "generated": agreement(made.generated, features, own),
        "shuffled": agreement(made.generated, features, own[words.derangement(len(own), seed)]),
        "ceiling": agreement(made.round_trip, features, own),
    }
    return {name: score.as_json() for name, score in scores.items()}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Real pictures of one split to compare others with; their features are computed once."""

    rows: Sequence[Picture]
    judges: Panel

    @classmethod
    def draw(cls, rows: Sequence[Picture], judges: Panel, *, seed: int, count: int) -> "Reference":
        """Draw at most `count` of `rows`."""
        order = rng.generator(seed, "scorecard", "references").permutation(len(rows))[:count]
        return cls(rows=[rows[i] for i in order.tolist()], judges=judges)

    @cached_property
    def mean(self) -> UInt8[np.ndarray, "h w 3"]:
        """The mean picture."""
        return pixels_of(self.rows).mean(0).round().astype(np.uint8)

    @cached_property
    def features(self) -> Mapping[str, Float[np.ndarray, "n _d"]]:
        """Features of the pictures, by the features' names."""
        return {name: features(pixels_of(self.rows)) for name, features in _features(self.judges).items()}

    @cached_property
    def captions(self) -> Float[np.ndarray, "n d"]:
        assert self.judges.sentences is not None
        return self.judges.sentences.vectors([row.caption for row in self.rows])


def measure_set_distances(made: Pictures, reference: Reference, *, seed: int) -> dict[str, Any] | None:
    """Measure Fréchet and kernel distances to the pictures of `reference` that were not chosen.

    All sets have the same size, so that they have the same bias: `generated`; the floors `noise`, uniform
    pixels, and `constant`, one mean picture; the ceilings `round_trip` and `real`, the chosen originals (what
    a model over these codes, and any model, could reach), as far as `Pictures.kinds` has them. Sets of fewer
    than `min_frechet_examples` pictures have no Fréchet distance; `frechet_needs` is that number.

    Returns:
        Features -> set -> distance -> estimate; None for too few pictures.
    """
    size = len(made.chosen)
    used = {row.key for row in made.chosen}
    free = np.array([row.key not in used for row in reference.rows])
    if free.sum() < _LEAST:  # nearly all are chosen: compare half of them with the rest
        size //= 2
        used = {row.key for row in made.chosen[:size]}
        free = np.array([row.key not in used for row in reference.rows])
    if min(size, free.sum()) < _LEAST:
        return None
    shape = made.real[:size].shape
    sets = {name: pixels[:size] for name, pixels in made.kinds.items()}
    sets["noise"] = rng.generator(seed, "scorecard", "noise").integers(0, 256, shape, np.uint8)
    sets["constant"] = np.ascontiguousarray(np.broadcast_to(reference.mean, shape))
    result: dict[str, Any] = {}
    for name, features in _features(reference.judges).items():
        target = reference.features[name][free]
        least = min_frechet_examples(target.shape[1])
        result[name] = {"n": size, "num_references": len(target), "frechet_needs": least}
        for kind, pixels in sets.items():
            own = features(pixels)
            result[name][kind] = {"kernel": kernel(own, target).as_json()}
            if min(size, len(target)) >= least:
                result[name][kind]["frechet"] = frechet(own, target, seed=seed).as_json()
    return result


def measure_caption_agreement(
    made: Pictures, captions: Sequence[str], training: Reference, *, seed: int
) -> dict[str, Any] | None:
    """Measure how often a picture's own caption is the nearest of `captions`.

    Captions are compared after a linear map from image features to caption vectors, fitted on the pictures of
    `training` with other concepts than the chosen ones. Ceilings: `real`, the chosen originals (the limit of
    the judge), and `round_trip` (that of the tokenizer). Floors: `shuffled` captions, and chance.

    Returns:
        Set -> agreement; None without the judges, or for too few pictures.
    """
    images, sentences = training.judges.images, training.judges.sentences
    if images is None or sentences is None or len(captions) < 2 or len(made.chosen) < 2:
        return None
    held_out = {row.concept for row in made.chosen}
    free = np.array([row.concept not in held_out for row in training.rows])
    if free.sum() < _LEAST:
        return None
    fitted = fit_linear_map(training.features[images.name][free], training.captions[free])
    gallery = sentences.vectors(list(captions))
    place = {caption: number for number, caption in enumerate(captions)}
    own = np.array([place[row.caption] for row in made.chosen])
    predicted = {name: fitted(images.features(pixels)) for name, pixels in made.kinds.items()}
    scores = {name: retrieval(vectors, gallery, own) for name, vectors in predicted.items()}
    order = words.derangement(len(own), seed)
    scores["shuffled"] = retrieval(predicted["generated"], gallery, own[order])
    return {
        "features": images.name,
        "captions": sentences.name,
        "fitted_on": int(free.sum()),
        **{name: score.as_json() for name, score in scores.items()},
    }


def _features(judges: Panel) -> Mapping[str, Features]:
    found: dict[str, Features] = {LAB: lab_features}
    if judges.images is not None:
        found[judges.images.name] = judges.images.features
    return found
