"""Recipes at the reference geometry of arXiv 2602.21472: `pilot_320m`, `trimodal_1b`, `trimodal_3b`.

A row has 3,256 slots: 15 s of speech × 200 codes, and 256 for text [P?]. Text has 100,277 ids (the size of
cl100k); pictures 32 × 32 cells of 16,384 codes; speech 25 frames/s × 8 codebooks × 1,024 codes; all are
flattened, with one code per position. The paper's vocabulary has 117,685 entries, 100,277 + 16,384 + 1,024
[P?], with one range for all codebooks of speech. Ours has a range for each, and end codes: 124,879.

The recipes state the statistics of their data and contain none: replace it with `--data`. A sequence is one
row: a text passage fills it, a pair is padded. A token of a horizon is a slot of a row, padding included [D:
we do not know how the paper counts]. The optimizer's values are ours and untuned [D]; the parametrization and
the κ rule transfer them from the pilot to the others, so tuning the pilot tunes all three.
"""

from dataclasses import replace

from trimask.data.default_mixture import default_components
from trimask.data.mixture import MixtureConfig
from trimask.data.selection import StatedData, StatedSource
from trimask.data.source_names import IMAGES, SPEECH, TEXT
from trimask.data.stream import SpanSlack
from trimask.model.denoiser import DenoiserConfig
from trimask.model.parametrization import CompletedP
from trimask.training.compute import ComputeConfig, Recompute
from trimask.training.corruption import ObjectiveConfig
from trimask.training.logical_batch import Tuned
from trimask.training.lr_schedule import WarmupCosine, warmup_fraction
from trimask.training.optimizers import AdamWConfig
from trimask.training.reduction import TokenMean
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import CodeSpace

ROW = 3256
_PILOT_BATCH = 256
_PILOT_TOKENS = 13_000_000_000
_BASE = CompletedP(base_width=1024, base_depth=6, base_num_heads=8)


def pilot_320m() -> RunConfig:
    """The size for tuning: small enough for thousands of runs.

    Size: 76M parameters in blocks, 256M in embeddings; the paper's 320M have 240M of embedding [P], over its
    smaller vocabulary. Width 1,024, depth 6, 8 heads [D]. Tokens: 13B in batches of 256 rows; cosine schedule
    with 1,000 steps of warm-up, at most a quarter of the run [P?]. Cost: 5.3e18 FLOPs, 3 hours on one H100 at
    half of its peak [D].
    Expect: no results yet; nobody has run it with this code.
    """
    return RunConfig(
        seed=0,
        model=DenoiserConfig(width=1024, depth=6, num_heads=8, parametrization=_BASE),
        data=_stated_data(),
        mixture=MixtureConfig(components=default_components((TEXT, IMAGES, SPEECH))),
        # A mean over tokens: text, pictures and speech are each a third of the targets and of the loss,
        # captions 1 % and transcripts 2 % (but 10 % and 20 % of the FLOPs).
        objective=ObjectiveConfig(reduction=TokenMean()),
        # A clip of 15 s and its transcript leave 51 slots, six frames of speech, for end frames [D].
        slack=SpanSlack(minimum=4, fraction=0.01, filled={"image_to_text": 96}),
        # Usual values for language models [D], whose loss is also a mean over tokens (`clip_norm` depends on
        # its scale). They have not been tuned here.
        optimizer=AdamWConfig(learning_rate=1e-3, weight_decay=0.1),
        tuned=Tuned(logical_batch=_PILOT_BATCH, num_steps=_steps(_PILOT_TOKENS, _PILOT_BATCH)),
        lr_schedule=WarmupCosine(warmup_fraction=warmup_fraction(_steps(_PILOT_TOKENS, _PILOT_BATCH))),
        logical_batch=_PILOT_BATCH,
        num_steps=_steps(_PILOT_TOKENS, _PILOT_BATCH),
        row_length=ROW,
        compute=ComputeConfig(micro_batch=8, compile=True),
        log_every=10,
        checkpoint_every=1000,
        evaluate_every=1000,
    )


def trimodal_1b() -> RunConfig:
    """A billion parameters, trained on the number of tokens that is optimal for this size.

    Size: 541M parameters in blocks, 448M in embeddings. Width 1,792, depth 14, 14 heads [D]. Tokens: 278B,
    D*(N) = 7754 · N^0.84 with N of all parameters [P?: the law; D: what N counts; blocks alone give 168B].
    Logical batch: 1,024 sequences, the power of two for which κ is nearest to 1, so that the tuned values
    change little [D]. Cost: 6.7e20 FLOPs, 380 H100-hours at half of their peak [D].
    Expect: no results yet; nobody has run it with this code.
    """
    return _scale_up(
        pilot_320m(),
        width=1792,
        depth=14,
        logical_batch=1024,
        tokens=278_000_000_000,
        compute=ComputeConfig(micro_batch=8, compile=True, recompute=Recompute.SELECTIVE),
    )


def trimodal_3b() -> RunConfig:
    """The reference model: three billion parameters on 6.4T tokens.

    Size: 2.3B parameters in blocks, 0.7B in embeddings. Width 2,816, depth 24, 22 heads [D: the paper gives
    only the size]. Tokens: 6.4T [P], nine times D*(N) = 708B [P?]. Logical batch: 4,096 sequences, the power
    of two for which κ is nearest to 1 [D]. Cost: 6.0e22 FLOPs, 34,000 H100-hours at half of their peak [D].
    Expect: no results yet; nobody has run it with this code.
    """
    return _scale_up(
        pilot_320m(),
        width=2816,
        depth=24,
        logical_batch=4096,
        tokens=6_400_000_000_000,
        compute=ComputeConfig(micro_batch=8, compile=True, recompute=Recompute.SELECTIVE),
    )


def _scale_up(
    pilot: RunConfig, *, width: int, depth: int, logical_batch: int, tokens: int, compute: ComputeConfig
) -> RunConfig:
    """Return the pilot at another size, batch and horizon, to which its optimizer's values transfer."""
    num_steps = _steps(tokens, logical_batch)
    return replace(
        pilot,
        model=pilot.model.resized(width=width, depth=depth),
        lr_schedule=WarmupCosine(warmup_fraction=warmup_fraction(num_steps)),
        logical_batch=logical_batch,
        num_steps=num_steps,
        compute=compute,
    )


def _steps(tokens: int, batch: int) -> int:
    return round(tokens / (batch * ROW))


def _stated_data() -> StatedData:
    """Return the statistics of the data, with mean lengths [D].

    Passages fill a row, captions have 64 ids, and clips have the greatest length that fits a row; `trimask
    prepare` encodes transcripts with one id per byte.
    """
    return StatedData(
        text_window=ROW - 3,
        spaces=(
            CodeSpace(name="text", num_codebooks=1, codebook_size=100_277, has_end=True),
            CodeSpace(name="image", num_codebooks=1, codebook_size=16_384, has_end=False, grid=(32, 32)),
            CodeSpace(name="speech", num_codebooks=8, codebook_size=1024, has_end=True, frame_rate=25.0),
        ),
        sources=(
            StatedSource(name=TEXT, lengths={"text": ROW - 3}),
            StatedSource(name=IMAGES, lengths={"text": 64, "image": 1}),
            StatedSource(name=SPEECH, lengths={"text": 200, "speech": 15.0}),
        ),
    )
