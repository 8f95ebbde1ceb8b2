"""What tokenizers declare of themselves, without them: enough for the vocabulary that they give."""

from dataclasses import dataclass
from typing import final

from trimask.errors import UserError
from trimask.vocabulary.alignment import EVEN, TextAlignment
from trimask.vocabulary.codebooks import CodebookLayout
from trimask.vocabulary.layout import CodeSpace, Vocabulary

_MOST_CODEBOOKS = 1024
_LARGEST = 1 << 24  # ids of a codebook, or of text
_LONGEST_SIDE = 4096  # cells


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """Sizes of a text, an image and a speech tokenizer.

    Attributes:
        text_size: ids of the text tokenizer.
        image_grid: (rows, columns) of cells.
        speech_frame_rate: frames a second.
    """

    text_size: int
    image_grid: tuple[int, int]
    image_codebooks: int
    image_codebook_size: int
    speech_codebooks: int
    speech_codebook_size: int
    speech_frame_rate: float

    def __post_init__(self) -> None:
        counts = ("text_size", "image_codebooks", "image_codebook_size", "speech_codebooks")
        for name in (*counts, "speech_codebook_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}: must be at least 1")
            most = _MOST_CODEBOOKS if name.endswith("codebooks") else _LARGEST
            if getattr(self, name) > most:
                raise UserError(f"{name} {getattr(self, name)}: may be at most {most:,}")
        if not all(1 <= side <= _LONGEST_SIDE for side in self.image_grid):
            raise UserError(f"image_grid {self.image_grid}: each side must be from 1 to {_LONGEST_SIDE:,}")
        if not 1e-3 <= self.speech_frame_rate <= 1e6:
            raise UserError(f"speech_frame_rate {self.speech_frame_rate}: must be from 0.001 to 1,000,000")

    def vocabulary(
        self,
        *,
        image_layout: CodebookLayout,
        audio_layout: CodebookLayout,
        alignment: TextAlignment = EVEN,
    ) -> Vocabulary:
        """The token space."""
        return Vocabulary(
            alignment=alignment,
            text=CodeSpace(num_codebooks=1, codebook_size=self.text_size, has_end=True),
            image=CodeSpace(
                num_codebooks=self.image_codebooks,
                codebook_size=self.image_codebook_size,
                has_end=False,
                grid=self.image_grid,
                layout=image_layout,
            ),
            audio=CodeSpace(
                num_codebooks=self.speech_codebooks,
                codebook_size=self.speech_codebook_size,
                has_end=True,
                layout=audio_layout,
            ),
        )
