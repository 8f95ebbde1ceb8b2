"""The three tokenizers of a model, kept in one folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from trimask import io
from trimask.tokenizers.image import ImageTokenizer
from trimask.tokenizers.speech import SpeechTokenizer
from trimask.tokenizers.text import TextTokenizer
from trimask.vocabulary.codebooks import CodebookLayout
from trimask.vocabulary.layout import CodeSpace, Vocabulary

SHIPPED = Path(__file__).parents[1] / "assets" / "tokenizers"
_TEXT, _IMAGE, _SPEECH = "text.json", "image.safetensors", "speech.safetensors"


@final
@dataclass(frozen=True, kw_only=True)
class Tokenizers:
    """Text, image and speech tokenizers. They fix the vocabulary: what an id means."""

    text: TextTokenizer
    image: ImageTokenizer
    speech: SpeechTokenizer

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> "Tokenizers":
        """Read the three files of `folder`; by default those that ship with the package.

        Raises:
            FileNotFoundError, ValueError: naming the file that is missing or damaged.
        """
        return cls(
            text=TextTokenizer.load(folder / _TEXT),
            image=ImageTokenizer.load(folder / _IMAGE),
            speech=SpeechTokenizer.load(folder / _SPEECH),
        )

    def save(self, folder: Path) -> None:
        self.text.save(folder / _TEXT)
        self.image.save(folder / _IMAGE)
        self.speech.save(folder / _SPEECH)

    def vocabulary(self, *, image_layout: CodebookLayout, audio_layout: CodebookLayout) -> Vocabulary:
        """The token space of these tokenizers' geometry."""
        return Vocabulary(
            text=CodeSpace(num_codebooks=1, codebook_size=self.text.vocabulary_size, has_end=True),
            image=CodeSpace(
                num_codebooks=self.image.num_codebooks,
                codebook_size=self.image.codebook_size,
                has_end=False,
                grid=self.image.grid,
                layout=image_layout,
            ),
            audio=CodeSpace(
                num_codebooks=self.speech.num_codebooks,
                codebook_size=self.speech.codebook_size,
                has_end=True,
                layout=audio_layout,
            ),
        )


def hashes(folder: Path = SHIPPED) -> dict[str, str]:
    """SHA-256 of each tokenizer file: what tokenized data and a run record, to tell one tokenizer from
    another.
    """
    return {name: io.sha256(folder / name) for name in (_TEXT, _IMAGE, _SPEECH)}
