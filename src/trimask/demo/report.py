"""The parts of the demo's report other than samples: model card, training curves, next commands."""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path

from trimask import io, rng
from trimask.data.selection import QuickstartData
from trimask.evaluation.image import MEASURE
from trimask.evaluation.likelihood import target_tokens, unigram_bits
from trimask.generation.generate import Generator
from trimask.report import Block, Chart, Floor, Prose, Section, Table
from trimask.runs.build import build_stream
from trimask.runs.embedded import pictures
from trimask.runs.embedded_tokens import load_encoded
from trimask.runs.load import QUICKSTART
from trimask.runs.pretrain import TOKENS
from trimask.sampling.predictor import DenoiserPredictor
from trimask.scorecard.images import gallery_features, make_pictures, score_images
from trimask.scorecard.score import tokenizers_of
from trimask.scorecard.tables import scorecard_blocks
from trimask.training.loop import TrainResult
from trimask.training.run import RunConfig
from trimask.training.tracker import read_metrics

SCORECARD = "scorecard.json"
_COLOURS = {"text": "#2563a8", "image": "#1b7f5c", "speech": "#8a3fa0"}
_FLOOR_SEQUENCES = 600
_DECAY = 0.8  # of the exponential moving average that smooths curves
_FIGURES = 24  # pictures generated to score the fresh run


def describe_shipped(folder: Path = QUICKSTART.parent) -> Section | None:
    """Describe the shipped model: its abilities and limits from the model card, and its scorecard."""
    blocks: list[Block] = []
    for card in sorted(folder.glob("*.md")):
        blocks += card_blocks(card.read_text(encoding="utf-8"))
    if (folder / SCORECARD).exists():
        blocks += scorecard_blocks(io.read_json(folder / SCORECARD))
        command = "trimask evaluate quickstart --suite full --judges JUDGES --out scorecard.json"
        blocks.append(Prose(text=f"All scores: `{command}`", is_note=True))
    return Section(title="What it can and cannot do", blocks=blocks) if blocks else None


def card_blocks(card: str) -> list[Block]:
    """Extract paragraphs and lists of a Markdown card under headings about abilities or limits."""
    texts: list[str] = []
    is_wanted = is_open = False
    for line in card.splitlines():
        text = line.strip().replace("**", "")
        if line.startswith("#"):
            heading = line.lstrip("# ").lower()
            is_wanted = "can" in heading.replace("cannot", "can").split() or "limit" in heading
            is_open = False
        elif not is_wanted or not text or line.startswith(("|", "```")):
            is_open = False
        elif text.startswith(("- ", "* ")):
            texts.append(f"• {text[2:]}")
            is_open = True
        elif is_open:  # a paragraph or list item continues on this line
            texts[-1] += f" {text}"
        else:
            texts.append(text)
            is_open = True
    blocks: list[Block] = [Prose(text=text) for text in texts]
    return blocks


def describe_training(run: Path, config: RunConfig, generator: Generator, result: TrainResult) -> list[Block]:
    """Describe the fresh run: size and duration, training curves with floors, and their final values."""
    rows = read_metrics(run) if (run / "metrics.jsonl").is_file() else []
    floors = _floors(run, config, generator)
    charts: list[Block] = []
    table: list[list[str]] = []
    for modality, (uniform, unigram) in floors.items():
        name = f"{modality}_bits_per_token"
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        smooth = _smooth([y for _, y in points])
        charts.append(
            Chart(
                title=modality.capitalize(),
                x=[x for x, _ in points],
                y=smooth,
                x_label="step",
                y_label="bits per token",
                floors=(Floor(label="uniform", value=uniform), Floor(label="unigram", value=unigram)),
                colour=_COLOURS[modality],
            )
        )
        end = f"{smooth[-1]:.2f}" if smooth else "–"
        table.append([modality, end, f"{unigram:.2f}", f"{uniform:.2f}"])
    seconds = result.seconds / max(result.steps, 1)
    how = {"finished": "", "deadline": "; ended by the deadline", "interrupted": "; stopped by Ctrl-C"}[
        result.stopped
    ]
    assert isinstance(generator.predictor, DenoiserPredictor)
    num_parameters = sum(parameter.numel() for parameter in generator.predictor.denoiser.parameters())
    lead = (
        f"{num_parameters / 1e6:.1f} M parameters from scratch: {result.steps} of {config.num_steps} steps "
        f"in {result.seconds / 60:.1f} minutes ({seconds:.2f} s a step{how}), {config.logical_batch} "
        "sequences a step."
    )
    short = (
        "Minutes of training show that the model learns, not how good it gets: at this stage, samples "
        "without a prompt are nearly empty, and words and outlines take hours (the shipped one: nine)."
    )
    note = (
        "NELBO on the training mixture (all tasks of a modality together), smoothed. Lower is better; the "
        "dashed lines are models that know nothing (uniform), or only the frequency of each token (unigram)."
    )
    header = ("bits per token", "at the end", "floor: unigram", "floor: uniform")
    return [
        Prose(text=lead),
        Prose(text=short, is_note=True),
        *charts,
        Prose(text=note, is_note=True),
        Table(header=header, rows=table),
    ]


def measure_figures(generator: Generator, data: QuickstartData, *, seed: int) -> Block | None:
    """Measure the agreement of pictures generated for training captions, with chance and the ceiling."""
    gallery = pictures("train", data)
    order = rng.generator(seed, "demo", "figures").permutation(len(gallery))
    chosen = [gallery[i] for i in order[:_FIGURES].tolist()]
    made = make_pictures(generator, tokenizers_of(generator).image, chosen, seed=seed)
    scores = score_images(made, gallery, gallery_features(gallery), seed=seed)
    blocks = scorecard_blocks({"images": {"seen": scores, "measure": MEASURE}}) if scores else []
    return blocks[0] if blocks else None


def list_next_commands(out: Path, prompts: Mapping[str, str], program: str) -> str:
    """List commands to try after the demo.

    Args:
        prompts: RUN argument -> a caption of that model's training data.
        program: how the user calls trimask.
    """
    commands = [f"{program} serve quickstart"]  # its page shows all of it
    commands += [
        f"{program} sample {run} --task text_to_image --prompt {shlex.quote(prompt)} --out samples"
        for run, prompt in prompts.items()
    ]
    commands += [
        f"{program} sample quickstart --task text_to_speech --prompt 'good morning' --out samples",
        f"{program} sample quickstart --task text --out samples",
        f"{program} train quickstart_mini --out runs/mini",
    ]
    if (out / "run").exists():  # not after a demo without training
        commands.append(f"{program} evaluate {out / 'run'} --out scorecard.json")
    return "\n".join(commands)


def _floors(run: Path, config: RunConfig, generator: Generator) -> dict[str, tuple[float, float]]:
    """Compute (uniform, unigram) bits per token of each modality's targets, over the run's stream."""
    sources = load_encoded(run / TOKENS, "train")
    vocabulary = generator.vocabulary
    stream = build_stream(config, sources, vocabulary)
    sequences = [stream.sequence(i) for i in range(_FLOOR_SEQUENCES)]
    floors = {}
    for modality in vocabulary.modalities:
        here = [s for s in sequences if target_tokens(s, vocabulary, modality)]
        if here:
            uniform = math.log2(vocabulary.space(modality).range_size)
            floors[modality] = (uniform, unigram_bits(here, here, vocabulary, modality))
    return floors


def _smooth(values: list[float]) -> list[float]:
    """Compute the exponential moving average with bias correction."""
    smooth, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = _DECAY * total + (1 - _DECAY) * value, _DECAY * weight + (1 - _DECAY)
        smooth.append(total / weight)
    return smooth
