"""A tokenizer recipe becomes a run: trained, measured, and a page to look at and listen to."""

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
"""What a run writes before it computes anything: can be made anew."""

MAY_CHANGE = (*INTERVALS, "run.data.sources")  # their fingerprints stay the same
"""What a resumed run may have otherwise than its start."""


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
    """Run `config` in the directory `out`: the decoded data, checkpoints, metrics, and at the end the weights
    (`weights_file`, float16) and the report of their round trips.
    """
    training = training_of(config)
    resolved = {"recipe": recipe, "run": config}
    with locks.lock(out):  # a run that was started twice would write over itself
        io.remove_partial(out)
        open_run(out, resolved, resume=resume, may_change=MAY_CHANGE, leftovers=LEFTOVERS)
        folder = out / DATA
        rows = training_signals(config.data, training.kind, size=training.size, folder=folder, report=report)
        data = training.data(rows, folder, report)
        if not (out / START).exists():
            training.check(data)
        batches = training.batches(data)
        tokenizer = training.fitted(data, out / START, report)
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
            resume=True,  # `open_run` has settled whether this directory may be used
            deadline=deadline,
            describe=recipe,
            stages=training.stages,
            on_progress=on_progress,
        )
        weights = weights_file(config, out)
        facts = {"recipe": recipe, "steps": str(result.steps), "trained_on": digest(rows)}
        tokenizer.save(weights, half=True, **facts)
        if result.stopped != "interrupted":  # who stops a run does not want to wait for figures
            codec: dict[str, Any] = {training.kind: training.tokenizer_type.load(weights)}
            measured = Measurement()
            stages = training.stages
            measure(config.data, out, **codec, measurement=measured, run=out, stages=stages, report=report)
        return result


def training_of(config: TokenizerRun) -> TokenizerTraining:
    """What the training of this kind of tokenizer takes."""
    return PictureTraining(config) if isinstance(config, ImageTokenizerRun) else RecordingTraining(config)


def weights_file(config: TokenizerRun, out: Path) -> Path:
    """The weights that a run leaves, with their configuration."""
    return out / f"{training_of(config).kind}.safetensors"


def rates(codec: ImageCodec | SpeechCodec) -> dict[str, Any]:
    """Geometry of a tokenizer: codes and bits per image, or per second."""
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
