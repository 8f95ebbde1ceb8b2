"""What decides the bytes of prepared data, beside the input and the tokenizers."""

from dataclasses import dataclass
from typing import Literal, final

from trimask.errors import UserError

SampleBy = Literal["document", "paragraph", "line"]
CaptionFrom = Literal["file", "folder"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What is set aside rather than tokenized.

    Attributes:
        max_bytes: of an encoded picture or recording, and of a text document.
        max_pixels: width × height by the picture's header, before it is decoded.
        min_side: pixels.
        min_seconds, max_seconds: of a recording, by its header.
        min_rate, max_rate: samples a second.
        max_channels: of a recording.
        silence: a recording whose loudest sample is below this is silent (−60 dB of full scale).
        max_characters_per_second: nobody speaks faster [D: fast English is 25]; the rate in the recording's
            header is wrong, or the transcript is another's.
        max_caption: characters of a caption or transcript.
    """

    max_bytes: int = 64_000_000
    max_pixels: int = 64_000_000
    min_side: int = 8
    min_seconds: float = 0.1
    max_seconds: float = 30.0
    min_rate: int = 4000
    max_rate: int = 384_000
    max_channels: int = 16
    silence: float = 1e-3
    max_characters_per_second: float = 40.0
    max_caption: int = 2000

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds < self.max_seconds:
            raise UserError(f"max_seconds {self.max_seconds}: must be above {self.min_seconds}")
        if self.max_pixels < 1:
            raise UserError(f"max_pixels {self.max_pixels}: must be at least 1")


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
