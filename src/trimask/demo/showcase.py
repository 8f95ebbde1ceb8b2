"""Generate the demo's samples as blocks of a report, and write each to a file at once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import numpy as np
import soundfile
from PIL import Image

from trimask.datasets.quickstart import CaptionedImage, Utterance
from trimask.demo.examples import Examples
from trimask.generation.generate import Generator
from trimask.generation.generated import Generated
from trimask.io import atomic_write
from trimask.media.encoded import waveform_at
from trimask.report import Block, Card, Cards, Picture, Sound
from trimask.scorecard.speech import speak
from trimask.scorecard.text import ignore_length_warnings


@final
class Showcase:
    """Generates with one model and writes the samples to `folder`."""

    def __init__(self, generator: Generator, examples: Examples, folder: Path, *, seed: int) -> None:
        self.generator = generator
        self.examples = examples
        self.folder = folder
        self.seed = seed

    def shipped(self) -> list[tuple[str, Callable[[], Block | None]]]:
        """Return (name, function that makes the block) of each step for the shipped model, best first."""
        rows = self.examples
        return [
            (
                "pictures for captions that it has seen",
                lambda: self.pictures("Pictures for captions seen in training", rows.seen, "seen"),
            ),
            (
                "speech for captions and sentences that it has seen",
                lambda: self.speech("Speech for texts seen in training", rows.seen_speech, "seen"),
            ),
            (
                "pictures for compositions that were held out",
                lambda: self.pictures(
                    "Pictures for held-out compositions",
                    rows.compositions,
                    "composition",
                    "The concept was seen, but never in this skin tone or form.",
                ),
            ),
            ("a filmstrip of the unmasking", self.filmstrip),
            (
                "captions for real pictures",
                lambda: self.captions([*rows.seen[:4], *rows.unseen[:2]], num_seen=min(4, len(rows.seen))),
            ),
            (
                "transcripts of real speech",
                lambda: self.transcripts([*rows.seen_speech[-2:], *rows.unseen_speech[:2]], num_seen=2),
            ),
            (
                "speech for sentences that it has never seen",
                lambda: self.speech("Speech for unseen sentences", rows.unseen_speech, "unseen"),
            ),
            ("passages of text", lambda: self.passages(["The Congress", "Our country"])),
            (
                "pictures for concepts that it has never seen",
                lambda: self.pictures(
                    "Pictures for unseen concepts",
                    rows.unseen,
                    "unseen",
                    "No concept of this name was in the training data: expect guesses from shared words.",
                ),
            ),
            ("everything at once, from nothing", self.from_nothing),
        ]

    def fresh(self) -> list[tuple[str, Callable[[], Block | None]]]:
        """Return (name, function that makes the block) of each step for the run trained live."""
        rows = self.examples
        return [
            (
                "pictures for trained captions",
                lambda: self.pictures("Pictures for the captions of this run", rows.seen, "seen"),
            ),
            (
                "speech for trained texts",
                lambda: self.speech("Speech for the texts of this run", rows.seen_speech, "seen"),
            ),
            (
                "captions for trained pictures",
                lambda: self.captions(list(rows.seen[:6]), num_seen=min(6, len(rows.seen))),
            ),
            ("text", lambda: self.passages(["The Congress"])),
        ]

    def pictures(
        self, heading: str, rows: Sequence[CaptionedImage], name: str, note: str = ""
    ) -> Block | None:
        """Generate pictures for the captions of `rows`, shown beside the real ones."""
        if not rows:
            return None
        made = self.generator.generate_many("text_to_image", [row.caption for row in rows], seed=self.seed)
        cards = []
        for number, (row, result) in enumerate(zip(rows, made, strict=True)):
            image = _image(result)
            self._save_image(image, f"image-{name}-{number:02d}")
            real = Image.fromarray(row.pixels())
            cards.append(
                Card(
                    title=row.caption,
                    pictures=(Picture(image=image, label="generated"), Picture(image=real, label="real")),
                )
            )
        return Cards(heading=heading, cards=cards, note=note)

    def speech(self, heading: str, rows: Sequence[Utterance], name: str) -> Block | None:
        """Generate speech for the texts of `rows`, shown beside the real recordings."""
        if not rows:
            return None
        cards = []
        for number, (row, result) in enumerate(
            zip(rows, speak(self.generator, rows, seed=self.seed), strict=True)
        ):
            cards.append(
                Card(
                    title=row.text,
                    sounds=(
                        self._sound(result, f"speech-{name}-{number:02d}", "generated"),
                        Sound(
                            samples=row.waveform(),
                            sample_rate=row.sample_rate,
                            label=f"real, voice {row.voice}",
                        ),
                    ),
                )
            )
        return Cards(heading=heading, cards=cards, is_wide=True)

    def captions(self, rows: Sequence[CaptionedImage], *, num_seen: int) -> Block | None:
        """Caption real pictures; the first `num_seen` were in the training data."""
        if not rows:
            return None
        images = [Image.fromarray(row.pixels()) for row in rows]
        with ignore_length_warnings():
            made = self.generator.generate_many("image_to_text", image=images, seed=self.seed)
        cards = [
            Card(
                pictures=(Picture(image=image, label="seen" if i < num_seen else "unseen"),),
                words=(("generated", result.text or "(nothing)"), ("real", row.caption)),
            )
            for i, (row, image, result) in enumerate(zip(rows, images, made, strict=True))
        ]
        return Cards(heading="Captions for real pictures", cards=cards)

    def transcripts(self, rows: Sequence[Utterance], *, num_seen: int) -> Block | None:
        """Transcribe real recordings; the first `num_seen` were in the training data."""
        if not rows:
            return None
        codec = self.generator.codecs.speech
        assert codec is not None
        clips = [waveform_at(row, codec.sample_rate) for row in rows]
        with ignore_length_warnings():
            made = self.generator.generate_many("speech_to_text", speech=clips, seed=self.seed)
        cards = [
            Card(
                sounds=(
                    Sound(
                        samples=row.waveform(),
                        sample_rate=row.sample_rate,
                        label="seen clip" if i < num_seen else "unseen clip",
                    ),
                ),
                words=(("generated", result.text or "(nothing)"), ("real", row.text)),
            )
            for i, (row, result) in enumerate(zip(rows, made, strict=True))
        ]
        return Cards(heading="Transcripts of real speech", cards=cards, is_wide=True)

    def passages(self, beginnings: Sequence[str]) -> Block:
        """Generate text without a prompt, and one continuation of each of `beginnings`."""
        with ignore_length_warnings():
            results = self.generator.generate_many("text", seed=self.seed)
            results += self.generator.generate_many("text", list(beginnings), seed=self.seed)
        cards = []
        for number, (label, result) in enumerate(
            zip(["from nothing", *(f"after “{b}”" for b in beginnings)], results, strict=True)
        ):
            with atomic_write(self.folder / f"text-{number:02d}.txt") as path:
                path.write_text(result.text or "", encoding="utf-8")
            cards.append(Card(words=((label, result.text or "(nothing)"),)))
        return Cards(heading="Text", cards=cards, is_wide=True)

    def filmstrip(self) -> Block | None:
        """Show how one picture is unmasked step by step."""
        if not self.examples.seen:
            return None
        caption = self.examples.seen[0].caption
        frames = self.generator.filmstrip(caption, num_frames=8, seed=self.seed)
        strip = [Picture(image=frame) for frame in frames]
        return Cards(
            heading="How a picture is unmasked",
            cards=(Card(title=caption, pictures=strip),),
            note="Grey cells are still masked; each step fills some of them, drawn at random.",
            is_wide=True,
        )

    def from_nothing(self) -> Block:
        """Generate a picture with its caption, and a triple with speech, from fully masked sequences."""
        with ignore_length_warnings():
            pair = self.generator.generate_many("joint", pair="image", seed=self.seed)[0]
            triple = self.generator.generate_many("triple", seed=self.seed)[0]
        cards = []
        for name, result in (("pair", pair), ("triple", triple)):
            image = _image(result)
            self._save_image(image, f"joint-{name}")
            sounds = () if result.waveform is None else (self._sound(result, f"joint-{name}", "its speech"),)
            words = (("its caption", result.text or "(nothing)"),)
            cards.append(
                Card(title=f"A {name}", pictures=(Picture(image=image),), sounds=sounds, words=words)
            )
        return Cards(
            heading="Everything from nothing",
            cards=cards,
            note="Generated at once, without any prompt: its parts rarely belong together.",
            is_wide=True,
        )

    def _save_image(self, image: Image.Image, name: str) -> None:
        with atomic_write(self.folder / f"{name}.png") as path:
            image.save(path)

    def _sound(self, result: Generated, name: str, label: str) -> Sound:
        assert result.waveform is not None and result.sample_rate is not None
        samples = np.asarray(result.waveform, dtype=np.float32)
        with atomic_write(self.folder / f"{name}.wav") as path:
            soundfile.write(path, np.clip(samples, -1, 1), result.sample_rate, subtype="PCM_16")
        # Of several targets, another one may be what did not end.
        is_cut = not result.is_complete and len(result.codes) == 1
        cut = ", did not end within its span" if is_cut else ""
        return Sound(samples=samples, sample_rate=result.sample_rate, label=label + cut)


def _image(result: Generated) -> Image.Image:
    assert result.image is not None
    return result.image
