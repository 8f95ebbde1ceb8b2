"""The embedded data as a scorecard's examples: raw pictures and recordings."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, final

from trimask.config import to_dict
from trimask.data.selection import QuickstartData
from trimask.data.source import ExampleSource
from trimask.data.source_names import EMOJI, SPEECHES, SPOKEN, TRIPLES
from trimask.datasets.quickstart import CaptionedImage, Utterance, load_speech, load_text
from trimask.evaluation.words import normalize_words
from trimask.runs.embedded import Split, pictures, select_speech
from trimask.runs.embedded_tokens import load_encoded, write_encoded
from trimask.scorecard.examples import Examples
from trimask.scorecard.suite import HeldOut
from trimask.tokenizers.bundle import Tokenizers

TASKS = (
    (SPEECHES, "text"),
    (EMOJI, "text_to_image"),
    (EMOJI, "image_to_text"),
    (SPOKEN, "text_to_speech"),
    (SPOKEN, "speech_to_text"),
    (EMOJI, "joint"),
    (SPOKEN, "joint"),
    (TRIPLES, "triple"),
)
# Amount of training data to encode if the run has not kept its tokens: enough for the likelihood floors, and
# quick to encode.
_CONCEPTS = _SENTENCES = 400


@final
class QuickstartExamples(Examples):
    """A selection of the embedded data.

    Args:
        kept: the run's tokenized training split; without it, a part of that split is encoded again.
    """

    def __init__(
        self,
        data: QuickstartData,
        tokenizers: Tokenizers,
        *,
        held_out: HeldOut = "validation",
        kept: Mapping[str, ExampleSource] | None = None,
        report: Callable[[str], None] = lambda message: None,
    ):
        self.data = data
        self.tokenizers = tokenizers
        self.held_out = held_out
        self.tasks = TASKS
        self.passages = SPEECHES
        self.text_window = data.text_window
        self.reference = None
        self._kept = kept
        self._scratch = Path(tempfile.mkdtemp(prefix="trimask-"))  # data encoded for this evaluation only
        weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        self._report = report

    def splits(self) -> tuple[str, ...]:
        # Compositions exist only if variants (such as skin tones) are part of the data.
        between = ("composition",) if self.data.has_variants else ()
        return ("train", *between, self.held_out)

    def sources(self, split: str) -> Mapping[str, ExampleSource]:
        if split == "train" and self._kept is not None:
            return self._kept
        # If the run had more readings than the embedded ones, use the embedded ones only.
        part = replace(
            self.data,
            readings=None,
            num_concepts=min(self.data.num_concepts or _CONCEPTS, _CONCEPTS),
            num_sentences=min(self.data.num_sentences or _SENTENCES, _SENTENCES),
        )
        name = cast(Split, split)
        folder = self._scratch / name
        if not folder.exists():
            write_encoded(part, self.tokenizers, folder, (name,), report=self._report)
        return load_encoded(folder, name)

    def pictures(self, split: str, count: int) -> list[CaptionedImage]:
        return pictures(cast(Split, split), self.data)

    def recordings(self, split: str, count: int) -> list[Utterance]:
        if split == "composition":
            return []
        bases = {row.base for row in self.pictures(split, count)}
        rows = select_speech(load_speech(split), self.data, bases)
        return [row for row in rows if row.kind == "sentence"]

    def texts(self, source: ExampleSource, count: int) -> list[str]:
        ids = [source.example(i)["text"][:, 0].tolist() for i in range(min(len(source), count))]
        return [self.tokenizers.text.decode(each) for each in ids]

    def training_words(self) -> set[str]:
        spelled = {word for row in load_text("train") for word in row.text.split()}
        return set(normalize_words(" ".join(spelled)))

    def as_json(self) -> dict[str, Any]:
        return to_dict(self.data)

    def list_left_out(self) -> list[dict[str, str]]:
        return []
