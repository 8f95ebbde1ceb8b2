"""Draw docs/assets/samples.png with the shipped model: `python docs/assets/samples.py`.

Nothing is picked by hand: captions and sentences are those that `trimask demo` draws with seed 0, every
sample has seed 0, and all settings are the model's own.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import PIL.Image
from matplotlib import pyplot
from scipy.signal import spectrogram

import trimask
from trimask.data.selection import QuickstartData
from trimask.demo.examples import draw_examples
from trimask.recipes.quickstart import quickstart

NUM_COLUMNS = 10
PLACE = Path(__file__).with_name("samples.png")


def main() -> None:
    model = trimask.load("quickstart")
    data = quickstart().data
    assert isinstance(data, QuickstartData)
    rows = draw_examples(data, seed=0, num_images=NUM_COLUMNS, num_clips=4)
    figure = pyplot.figure(figsize=(10, 6.9), dpi=100, facecolor="white")
    grid = figure.add_gridspec(6, NUM_COLUMNS, top=0.93, bottom=0.03, left=0.01, right=0.99, hspace=0.62)

    def heading(row: int, column: int, text: str) -> None:
        box = grid[row, column].get_position(figure)
        figure.text(box.x0, box.y1 + 0.034, text, fontsize=9, weight="bold")

    def pictures(row: int, start: int, images: Sequence[Any], titles: Sequence[str]) -> None:
        for number, (image, title) in enumerate(zip(images, titles, strict=True)):
            axes = figure.add_subplot(grid[row, start + number])
            axes.imshow(image, interpolation="nearest")
            axes.set_title(textwrap.shorten(title, 22, placeholder="…"), fontsize=6, pad=2, parse_math=False)
            axes.set_axis_off()

    few = NUM_COLUMNS // 2
    for row, start, name, found in (
        (0, 0, "Pictures for captions seen in training", rows.seen),
        (1, 0, "For held-out combinations (new skin tone or gender)", rows.compositions[:few]),
        (1, few, "For things never seen: it guesses", rows.unseen[:few]),
    ):
        captions = [each.caption for each in found]
        made = model.generate_many("text_to_image", captions, seed=0)
        heading(row, start, name)
        pictures(row, start, [each.image for each in made], captions)
    caption = rows.seen[0].caption
    heading(2, 0, f"Unmasking of the first, “{caption}”")
    frames = model.filmstrip(caption, num_frames=NUM_COLUMNS, seed=0)
    pictures(2, 0, frames, [f"frame {number + 1}" for number in range(NUM_COLUMNS)])

    real = rows.seen[:few]
    written = model.generate_many("image_to_text", image=[PIL.Image.fromarray(r.pixels()) for r in real])
    heading(3, 0, "Captions for real pictures seen in training")
    pictures(3, 0, [each.pixels() for each in real], [str(each.text) for each in written])
    heading(3, few, "Speech for a sentence seen in training: generated, real")
    spoken = rows.seen_speech[-1]
    waveform, rate = model.generate("text_to_speech", spoken.text, voice=spoken.voice, seed=0)
    longest = max(len(waveform), len(spoken.waveform()))
    for place, sound in zip(
        grid[3, few:].subgridspec(1, 2, wspace=0.05), (waveform, spoken.waveform()), strict=True
    ):
        axes = figure.add_subplot(place)
        _, _, power = spectrogram(np.asarray(sound, dtype=np.float64), rate, nperseg=512, noverlap=384)
        axes.imshow(np.log(power + 1e-10), origin="lower", aspect="auto", cmap="magma", vmin=-22, vmax=-8)
        axes.set_xlim(0, power.shape[1] * longest / len(sound))  # one scale of time
        axes.set_axis_off()
    box = grid[3, few].get_position(figure)
    figure.text(
        box.x0, box.y0 - 0.022, f"“{textwrap.shorten(spoken.text, 90)}”", fontsize=6, parse_math=False
    )

    passage = model.generate("text", "The Congress", seed=0)
    heading(4, 0, "Text that goes on from “The Congress”")
    box = grid[4, 0].get_position(figure)
    lines = textwrap.fill(" ".join(passage.split()), 150, max_lines=8)
    figure.text(box.x0, box.y1 + 0.02, lines, fontsize=7.5, va="top", linespacing=1.35, parse_math=False)
    figure.savefig(PLACE, bbox_inches="tight", pad_inches=0.08)
    with PIL.Image.open(PLACE) as drawn:
        few_colours = drawn.convert("RGB").quantize(128, dither=PIL.Image.Dither.NONE)
    few_colours.save(PLACE, optimize=True)


if __name__ == "__main__":
    main()
