"""The parts of the demo's report that are not samples: what the shipped model can do, how the fresh run
learned, how to go on.
"""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path

from trimask import io, rng
from trimask.data.selection import QuickstartData
from trimask.evaluation.image import MEASURE
from trimask.evaluation.likelihood import target_tokens, unigram_bits
from trimask.report import Block, Chart, Floor, Prose, Section, Table
from trimask.runs.build import build_stream
from trimask.runs.embedded import pictures
from trimask.runs.embedded_tokens import load_encoded
from trimask.runs.load import QUICKSTART
from trimask.runs.pretrain import TOKENS
from trimask.sampling.generate import Generator
from trimask.sampling.predictor import DenoiserPredictor
from trimask.scorecard.images import gallery_features, image_scores, make_pictures
from trimask.scorecard.score import tokenizers_of
from trimask.scorecard.tables import scorecard_blocks
from trimask.training.loop import TrainResult
from trimask.training.run import RunConfig
from trimask.training.tracker import read_metrics

SCORECARD = "scorecard.json"
_COLOURS = {"text": "#2563a8", "image": "#1b7f5c", "speech": "#8a3fa0"}
_FLOOR_SEQUENCES = 600
_KEPT = 0.8  # of the smoothed curve at each point
_FIGURES = 24  # pictures that the fresh run's figures are over


def about_shipped(folder: Path = QUICKSTART.parent) -> Section | None:
    """The shipped model's own account: what its card says of what it can and cannot do, and its scorecard."""
    blocks: list[Block] = []
    for card in sorted(folder.glob("*.md")):
        blocks += card_blocks(card.read_text(encoding="utf-8"))
    if (folder / SCORECARD).exists():
        blocks += scorecard_blocks(io.read_json(folder / SCORECARD))
        command = "trimask evaluate quickstart --out scorecard.json"
        blocks.append(Prose(text=f"All figures: `{command}`", is_note=True))
    return Section(title="What it can and cannot do", blocks=blocks) if blocks else None


def card_blocks(card: str) -> list[Block]:
    """The parts of a Markdown card whose headings speak of what the model can or cannot do; paragraphs and
    lists only.
    """
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
        elif is_open:  # a paragraph or an item goes on over several lines
            texts[-1] += f" {text}"
        else:
            texts.append(text)
            is_open = True
    blocks: list[Block] = [Prose(text=text) for text in texts]
    return blocks


def about_training(run: Path, config: RunConfig, generator: Generator, result: TrainResult) -> list[Block]:
    """Curves of the fresh run beside their floors, and a table of where they ended."""
    rows = read_metrics(run) if (run / "metrics.jsonl").is_file() else []
    floors = _floors(run, config, generator)
    charts: list[Block] = []
    table: list[list[str]] = []
    for modality, (uniform, unigram) in floors.items():
        name = f"{modality}_bits_per_token"
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        smooth = _smoothed([y for _, y in points])
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
    how = {"finished": "", "deadline": "; the time was up", "interrupted": "; stopped by hand"}[
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
        "Minutes show that it learns, not what it can: samples without a prompt are nearly empty this "
        "early, and words and outlines take hours (the shipped model: two)."
    )
    note = (
        "NELBO on the training mixture (all tasks of a modality together), smoothed. Lower is better; "
        "the dashed lines are what a model reaches that knows nothing, or only how frequent each token is."
    )
    header = ("bits per token", "at the end", "floor: unigram", "floor: uniform")
    return [
        Prose(text=lead),
        Prose(text=short, is_note=True),
        *charts,
        Prose(text=note, is_note=True),
        Table(header=header, rows=table),
    ]


def figures_of(generator: Generator, data: QuickstartData, *, seed: int) -> Block | None:
    """Agreement of pictures for trained captions, beside chance and the tokenizer's ceiling."""
    gallery = pictures("train", data)
    order = rng.generator(seed, "demo", "figures").permutation(len(gallery))
    chosen = [gallery[i] for i in order[:_FIGURES].tolist()]
    made = make_pictures(generator, tokenizers_of(generator).image, chosen, seed=seed)
    scores = image_scores(made, gallery, gallery_features(gallery), seed=seed)
    blocks = scorecard_blocks({"images": {"seen": scores, "measure": MEASURE}}) if scores else []
    return blocks[0] if blocks else None


def how_to_go_on(out: Path, prompts: Mapping[str, str], program: str) -> str:
    """Commands that lead on from the demo.

    Args:
        prompts: a caption that each model knows, by what `RUN` to give.
        program: how trimask is called from where the person stands.
    """
    commands = [
        f"{program} sample {run} --task text_to_image --prompt {shlex.quote(prompt)} --out samples"
        for run, prompt in prompts.items()
    ]
    return "\n".join(
        [
            *commands,
            f"{program} sample quickstart --task text_to_speech --prompt 'good morning' --out samples",
            f"{program} sample quickstart --task text --out samples",
            f"{program} train quickstart_mini --out runs/mini",
            f"{program} evaluate {out / 'run'} --out scorecard.json",
        ]
    )


def _floors(run: Path, config: RunConfig, generator: Generator) -> dict[str, tuple[float, float]]:
    """(uniform, unigram) in bits per token of each modality's targets, over the run's own stream."""
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


def _smoothed(values: list[float]) -> list[float]:
    """Exponential moving average, without the start's bias."""
    smooth, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = _KEPT * total + (1 - _KEPT) * value, _KEPT * weight + (1 - _KEPT)
        smooth.append(total / weight)
    return smooth
