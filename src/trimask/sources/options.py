"""The options that, with the input and the tokenizers, determine the bytes of prepared data."""

from dataclasses import dataclass
from typing import Literal, final

from trimask.errors import UserError
from trimask.media.limits import Limits

SampleBy = Literal["document", "paragraph", "line"]
CaptionFrom = Literal["file", "folder"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareOptions:
    """How a source is read, split and cut.

    Attributes:
        image_column, text_column, audio_column: names of these columns; by default found by usual names.
        speaker_column: column with the speaker of a recording, who becomes the voice tag of its transcript.
        language_column: column with the language of a recording, which speech recognition uses in evaluation;
            by default found by usual names.
        group_by: column whose equal values stay in one split and count as variants of one thing in training;
            "image" or "audio" groups the examples of one file. By default equal texts stay in one split, and
            each example counts separately. Examples of one file always stay in one split.
        caption_from: where the text of a picture or recording comes from if no table names it: a file next
            to it, or the name of its folder.
        sample_by: the unit of a .txt file that is one document.
        text_window: most ids in a text example; longer documents are cut into windows, at sentence ends where
            possible.
        validation, test: share of the groups; a split that the source names itself is not drawn.
        shard_codes: a shard is closed once it holds this many codes.
        revision: branch, tag or commit of a data set on the hub.
        follow_links: whether links in the source are followed rather than set aside.
        needs_text: whether a picture or recording without text is set aside; tokenizer training needs none.
        limits: bounds beyond which items are set aside.
    """

    image_column: str | None = None
    text_column: str | None = None
    audio_column: str | None = None
    speaker_column: str | None = None
    language_column: str | None = None
    group_by: str | None = None
    caption_from: CaptionFrom = "file"
    sample_by: SampleBy = "document"
    text_window: int = 128
    validation: float = 0.02
    test: float = 0.02
    shard_codes: int = 32_000_000
    revision: str | None = None
    follow_links: bool = True
    needs_text: bool = True
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.text_window < 8:
            raise UserError(f"text_window {self.text_window}: a passage needs at least 8 ids")
        for name in ("validation", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}: give a share of at least 0 and below 1")
        if self.validation + self.test >= 1:
            raise UserError(
                f"validation {self.validation} and test {self.test} leave nothing to train on: "
                "their sum must be below 1"
            )
        if self.shard_codes < 1:
            raise UserError(f"shard_codes {self.shard_codes}: must be at least 1")
