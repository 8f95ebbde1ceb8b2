"""Measure what tokenizers lose on pictures and recordings, and write the results as JSON and as a page."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import PIL.Image

from trimask import io, rng
from trimask.config import to_dict
from trimask.devices import describe
from trimask.errors import UserError
from trimask.evaluation.judges.panel import Panel
from trimask.evaluation.reconstruction import (
    Clips,
    image_figures,
    image_round_trip,
    speech_figures,
    speech_round_trip,
)
from trimask.media.recording import resample
from trimask.report import Block, Card, Cards, Chart, Page, Picture, Prose, Section, Sound, Table
from trimask.report.figures import error_rate_name, format_figure
from trimask.tokenizer_training.data import SignalData
from trimask.tokenizer_training.decoded import COMPOSITION, TRAIN, UNSEEN, as_floats, decode_signals
from trimask.tokenizer_training.signals import Signal, Signals
from trimask.training.tracker import read_metrics
from trimask.vocabulary.tokenizer import ImageCodec, SpeechCodec

REPORT, FIGURES = "report.html", "report.json"
DATA = "data"
_NAMES = {TRAIN: "seen in training", COMPOSITION: "held-out composition", UNSEEN: "not seen in training"}
_MOST_PIXELS = 3000 * 64 * 64  # measured in each part
_SHOWN_PICTURES, _SHOWN_CLIPS = 48, 8


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """Configures a measurement.

    Attributes:
        judges: models that judge recordings.
        num_clips: most recordings to measure in each part.
    """

    judges: Panel = Panel()
    num_clips: int = 200
    seed: int = 0


def measure(
    data: SignalData,
    folder: Path,
    *,
    image: ImageCodec | None = None,
    speech: SpeechCodec | None = None,
    measurement: Measurement | None = None,
    run: Path | None = None,
    stages: Mapping[int, str] | None = None,
    report: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Encode and decode `data`, and write `report.json` and `report.html` into `folder`.

    Args:
        image, speech: the tokenizers to measure; at least one.
        run: the run that trained the tokenizer, for its loss curves and its decoded data.
        stages: the first step and the name of each of its stages; each has a separate curve, since their
            losses differ.

    Returns:
        The content of `report.json`.

    Raises:
        UserError: `data` has no pictures or recordings for these tokenizers.
    """
    assert image is not None or speech is not None
    chosen = measurement or Measurement()
    figures: dict[str, Any] = {
        "format": "trimask tokenizer report",
        "data": to_dict(data),
        "seed": chosen.seed,
        "machine": describe(),
    }
    sections: list[Section] = []
    kept = folder
    if image is not None:
        kept = _data(folder, "image", run)
        parts = decode_signals(data, "image", size=image.image_size, folder=kept, report=report)
        if parts:
            report("sending pictures through the tokenizer")
            figures["image"], blocks = _images(image, parts, chosen)
            sections.append(Section(title="Pictures", blocks=blocks))
    if speech is not None:
        kept = _data(folder, "speech", run)
        parts = decode_signals(data, "speech", size=speech.sample_rate, folder=kept, report=report)
        if parts:
            report("sending recordings through the tokenizer")
            figures["speech"], blocks = _speech(speech, parts, chosen)
            sections.append(Section(title="Speech", blocks=blocks))
    if not sections:
        raise UserError(f"there is nothing to measure: {kept / 'rejected.jsonl'} lists what was set aside")
    if run is not None:
        sections.append(Section(title="Training curves", blocks=_curves(run, stages or {0: "Training"})))
    io.write_json(folder / FIGURES, figures)
    machine = figures["machine"]
    lead = f"Round trips, measured on {machine['device_name']}; all figures are in `{FIGURES}`."
    Page(title="What the tokenizer loses", lead=lead, sections=sections).write(folder / REPORT)
    return figures


def _data(folder: Path, kind: str, run: Path | None) -> Path:
    return folder / DATA / kind if run is None else run / DATA


def _images(
    codec: ImageCodec, parts: Mapping[str, Signals], chosen: Measurement
) -> tuple[dict[str, Any], list[Block]]:
    most = max(_MOST_PIXELS // codec.image_size**2, 1)
    drawn = {part: _draw(rows, most, chosen.seed) for part, rows in parts.items()}
    figures = {
        part: image_figures(codec, np.stack([row.values for row in rows])) for part, rows in drawn.items()
    }
    first = next(iter(figures.values()))
    header = ["", "pictures", "PSNR, dB", "of the mean colour", "SSIM", "of the mean colour"]
    table = [
        [
            _NAMES[part],
            f"{each['images']:,}",
            format_figure(each["psnr"]),
            format_figure(each["psnr_floor"]),
            format_figure(each["ssim"]),
            format_figure(each["ssim_floor"]),
        ]
        for part, each in figures.items()
    ]
    rows = drawn[UNSEEN if UNSEEN in drawn else next(iter(drawn))]
    shown = rows[:: max(len(rows) // _SHOWN_PICTURES, 1)][:_SHOWN_PICTURES]
    made, _ = image_round_trip(codec, np.stack([row.values for row in shown]))
    cards = [
        Card(
            title=row.text or row.key,
            pictures=[Picture(image=PIL.Image.fromarray(each)) for each in (np.array(row.values), after)],
        )
        for row, after in zip(shown, made, strict=True)
    ]
    size = f"{codec.image_size} pixels, {first['codes_per_image']} codes, {first['bits_per_image']:,.0f} bits"
    return figures, [
        Prose(text=f"{size} a picture; means over pictures with 95 % intervals."),
        Table(header=header, rows=table),
        _use_table(figures),
        Cards(heading="Before and after", cards=cards, note=_shown_part(drawn)),
    ]


def _speech(
    codec: SpeechCodec, parts: Mapping[str, Signals], chosen: Measurement
) -> tuple[dict[str, Any], list[Block]]:
    judged = UNSEEN if UNSEEN in parts else next(iter(parts))
    drawn = {part: _draw(rows, chosen.num_clips, chosen.seed) for part, rows in parts.items()}
    figures = {}
    for part, rows in drawn.items():
        judges = chosen.judges if part == judged else Panel()  # judges are slow
        clips = _clips(codec, rows)
        figures[part] = speech_figures(codec, clips, judges=judges, resample=resample, seed=chosen.seed)
    each, rows = figures[judged], drawn[judged]
    few = _clips(codec, rows[:: max(len(rows) // _SHOWN_CLIPS, 1)][:_SHOWN_CLIPS])
    made, _ = speech_round_trip(codec, few)
    rate = codec.sample_rate
    cards = [
        Card(
            title=text,
            sounds=[
                Sound(samples=before, sample_rate=rate, label=f"before {speaker}"),
                Sound(samples=after, sample_rate=rate, label="after"),
            ],
        )
        for text, speaker, before, after in zip(few.texts, few.speakers, few.waveforms, made, strict=True)
    ]
    rates = f"{each['codes_per_second']:g} codes and {each['bits_per_second']:,.0f} bits a second"
    blocks: list[Block] = [
        Prose(text=f"{rates}; {each['clips']} recordings, {each['seconds']:.0f} s, {_NAMES[judged]}."),
        Table(header=["", "round trip", "floor", "ceiling"], rows=_speech_rows(each)),
    ]
    if "speakers" in each.get("word_error_rate", {}):
        blocks.append(_speaker_table(each["word_error_rate"]["speakers"]))
    blocks += [
        _use_table(figures),
        Cards(heading="Before and after", cards=cards, note=_shown_part(drawn), is_wide=True),
    ]
    return figures, blocks


def _clips(codec: SpeechCodec, rows: Sequence[Signal]) -> Clips:
    return Clips(
        waveforms=[as_floats(row.values) for row in rows],
        sample_rate=codec.sample_rate,
        texts=[row.text for row in rows],
        speakers=[row.speaker for row in rows],
    )


def _speech_rows(each: Mapping[str, Any]) -> list[list[str]]:
    spectral = each["mel_cepstral_distance"]
    floor = format_figure(spectral["noise"]) + " noise"
    rows = [["mel-cepstral distance, dB", format_figure(spectral["round_trip"]), floor, "0"]]
    if "word_error_rate" in each:
        words = each["word_error_rate"]
        rows.append(
            [
                error_rate_name(words),
                format_figure(words["round_trip"], is_share=True),
                "",
                f"{format_figure(words['clips'], is_share=True)} the clips",
            ]
        )
        rows.append(["more word errors, paired", format_figure(words["difference"], is_share=True), "", "0"])
    if "speaker_similarity" in each:
        similar = each["speaker_similarity"]
        rows.append(
            [
                "cosine of the voice",
                format_figure(similar["round_trip"]),
                f"{format_figure(similar['noise'])} noise",
                "1",
            ]
        )
    if "quality" in each:
        quality = each["quality"]
        floor, ceiling = (
            f"{format_figure(quality['noise'])} noise",
            f"{format_figure(quality['clips'])} the clips",
        )
        rows.append(["judged quality, 1 to 5", format_figure(quality["round_trip"]), floor, ceiling])
    return rows


def _speaker_table(speakers: Mapping[str, Any]) -> Table:
    rows = [
        [
            speaker or "(none named)",
            str(each["clips"]["n"]),
            format_figure(each["clips"], is_share=True),
            format_figure(each["round_trip"], is_share=True),
            format_figure(each["difference"], is_share=True),
        ]
        for speaker, each in speakers.items()
    ]
    header = ["word error rate of", "clips", "before", "after", "difference, paired"]
    return Table(heading="By speaker", header=header, rows=rows)


def _use_table(figures: Mapping[str, Any]) -> Table:
    rows = [
        [
            f"{_NAMES[part]}, codebook {number}",
            f"{use['used']:,}",
            f"{use['dead']:,}",
            f"{use['perplexity']:.0f}",
            f"{use['perplexity_inked']:.0f}",
        ]
        for part, each in figures.items()
        for number, use in enumerate(each["codebooks"], 1)
    ]
    header = ["codes", "used", "dead", "perplexity", "without the most frequent"]
    return Table(heading="Use of the codes", header=header, rows=rows)


def _shown_part(drawn: Mapping[str, Sequence[Signal]]) -> str:
    return f"{_NAMES[UNSEEN if UNSEEN in drawn else next(iter(drawn))].capitalize()}."


def _draw(rows: Signals, most: int, seed: int) -> list[Signal]:
    """Draw at most `most` rows at random, in order."""
    order = rng.generator(seed, "reconstruction", "drawn").permutation(len(rows))
    return [rows[int(i)] for i in sorted(order[:most])]


def _curves(run: Path, stages: Mapping[int, str]) -> list[Block]:
    """Chart the loss of each stage; a row of metrics is the mean over the updates since the previous row."""
    rows = [row for row in read_metrics(run) if row.get("loss") is not None]
    firsts = sorted(stages)
    charts: list[Block] = []
    for first, end in zip(firsts, [*firsts[1:], math.inf], strict=True):
        points = [
            (row["step"], row["loss"])
            for before, row in zip([{"step": 0}, *rows], rows, strict=False)
            if before["step"] >= first and row["step"] <= end
        ]
        name = stages[first]
        steps, losses = [step for step, _ in points], [loss for _, loss in points]
        title = name[:1].upper() + name[1:]
        charts.append(Chart(title=title, x=steps, y=losses, x_label="step", y_label="loss"))
    return charts
