"""What decides the bytes of prepared data, beside the input and the tokenizers."""

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
        image_column, text_column, audio_column: where these stand; by default found by their names.
        speaker_column: names the voice of a recording, which becomes the tag before its transcript.
        language_column: names the language of a recording, in which a recognizer listens later; by default
            found by its name.
        group_by: column whose equal values never cross splits and are variants of one thing in training;
            "image" or "audio": examples of one file are. By default equal texts never cross splits, and each
            example counts by itself. Examples of one file never cross splits in any case.
        caption_from: whether the text of a picture or recording that no table names stands in a file beside
            it, or is the name of its folder.
        sample_by: what of a .txt file is one document.
        text_window: ids of a text example at most; longer documents are cut into windows, of whole sentences
            where they fit.
        validation, test: share of the groups; the source's own splits come first.
        shard_codes: a shard is closed when it holds so many codes.
        revision: of a data set on the hub.
        follow_links: whether links in the source are followed, or set aside.
        needs_text: whether a picture or recording without text is set aside; tokenizers do without.
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
