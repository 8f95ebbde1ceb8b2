"""Train a tokenizer from a recipe, measure it, and write a report."""

import math
from pathlib import Path
from typing import Any

from trimask import io, locks
from trimask.tokenizer_training.decoded import Report, digest, training_signals
from trimask.tokenizer_training.image import ImageTokenizerRun
from trimask.tokenizer_training.kinds import TokenizerRun, TokenizerTraining
from trimask.tokenizer_training.pictures import PictureTraining
from trimask.tokenizer_training.recordings import RecordingTraining
from trimask.tokenizer_training.report import Measurement, measure
from trimask.training.loop import OnProgress, TrainResult, train
from trimask.training.run_directory import INTERVALS, open_run
from trimask.vocabulary.tokenizer import ImageCodec, SpeechCodec

DATA, START = "data", "start.safetensors"
LEFTOVERS = (DATA, START)
"""Files that a run writes before training starts; a new run may replace them."""

MAY_CHANGE = (*INTERVALS, "run.data.sources")  # sources may move: their fingerprints must stay the same
"""Fields that may differ when a run is resumed."""


def train_tokenizer(
    config: TokenizerRun,
    out: Path,
    *,
    recipe: str,
    resume: bool = False,
    deadline: float | None = None,
    report: Report = lambda message: None,
    on_progress: OnProgress | None = None,
) -> TrainResult:
    """Train an image or speech tokenizer in the directory `out`, then measure it.

    The directory gets the decoded data, checkpoints, metrics, the weights (`weights_file`, float16) and the
    report. A run that is interrupted is not measured.
    """
    training = training_of(config)
    resolved = {"recipe": recipe, "run": config}
    with locks.lock(out):
        io.remove_partial(out)
        open_run(out, resolved, resume=resume, may_change=MAY_CHANGE, leftovers=LEFTOVERS)
        folder = out / DATA
        rows = training_signals(config.data, training.kind, size=training.size, folder=folder, report=report)
        data = training.data(rows, folder, report)
        if not (out / START).exists():
            training.check(data)
        batches = training.batches(data)
        tokenizer = training.load_or_fit(data, out / START, report)
        report("")
        result = train(
            training.step(tokenizer),
            batches,
            out=out,
            config=resolved,
            may_change=MAY_CHANGE,
            num_steps=config.num_steps,
            checkpoint_every=config.checkpoint_every,
            log_every=config.log_every,
            resume=True,  # `open_run` has checked whether this directory may be used
            deadline=deadline,
            describe=recipe,
            stages=training.stages,
            on_progress=on_progress,
        )
        weights = weights_file(config, out)
        facts = {"recipe": recipe, "steps": str(result.steps), "trained_on": digest(rows)}
        tokenizer.save(weights, half=True, **facts)
        if result.stopped != "interrupted":
            codec: dict[str, Any] = {training.kind: training.tokenizer_type.load(weights)}
            measured = Measurement()
            stages = training.stages
            measure(config.data, out, **codec, measurement=measured, run=out, stages=stages, report=report)
        return result


def training_of(config: TokenizerRun) -> TokenizerTraining:
    """Return the training of the kind of tokenizer that `config` describes."""
    return PictureTraining(config) if isinstance(config, ImageTokenizerRun) else RecordingTraining(config)


def weights_file(config: TokenizerRun, out: Path) -> Path:
    """Return the path of a run's weights."""
    return out / f"{training_of(config).kind}.safetensors"


def rates(codec: ImageCodec | SpeechCodec) -> dict[str, Any]:
    """Return the geometry of a tokenizer, with codes and bits per image or per second."""
    books = {"num_codebooks": codec.num_codebooks, "codebook_size": codec.codebook_size}
    bits = math.log2(codec.codebook_size)
    if isinstance(codec, ImageCodec):
        rows, columns = codec.grid
        codes = rows * columns * codec.num_codebooks
        return {
            "image_size": codec.image_size,
            "grid": [rows, columns],
            **books,
            "codes_per_image": codes,
            "bits_per_image": round(codes * bits, 1),
        }
    rate = codec.frame_rate * codec.num_codebooks
    return {
        "sample_rate": codec.sample_rate,
        "frame_rate": codec.frame_rate,
        **books,
        "codes_per_second": rate,
        "bits_per_second": round(rate * bits, 1),
    }
