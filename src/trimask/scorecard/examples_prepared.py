"""Prepared data as a scorecard's examples; its shards have only the codes of pictures and recordings."""

from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
import torch

from trimask.config import to_dict
from trimask.data.choice import choose
from trimask.data.source import ExampleSource
from trimask.data.source_names import IMAGES, SPEECH, TEXT
from trimask.evaluation.words import normalize_words
from trimask.media.encoded import decode_pixels
from trimask.prepare.manifest import load_split
from trimask.runs.kinds import kind_of
from trimask.scorecard.examples import DecodedPicture, DecodedRecording, Examples
from trimask.scorecard.suite import HeldOut
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.transcript import DEFAULT_VOICE, parse_transcript

_REFERENCE = (
    "Prepared data keeps codes, not pictures and recordings: samples are compared with the decoded codes of "
    "real examples (the tokenizer's round trip), which is the ceiling."
)
_WORDS_FROM = 20_000  # maximum number of passages from which the known words are collected
_NEEDS = {
    "text": (TEXT, "text passages, continuations"),
    "text_to_image": (IMAGES, "pictures from captions"),
    "image_to_text": (IMAGES, "captions of pictures"),
    "text_to_speech": (SPEECH, "generated speech"),
    "speech_to_text": (SPEECH, "transcripts"),
}


@final
class PreparedExamples(Examples):
    """The training split and a held-out split of a run's prepared data.

    Args:
        max_prompt: maximum length of a caption or transcript, in ids; examples with longer ones are left out.

    Raises:
        UserError: a folder is missing, or a shard has changed since it was written.
    """

    def __init__(
        self,
        config: RunConfig,
        tokenizers: Tokenizers,
        *,
        held_out: HeldOut,
        max_prompt: int,
        seed: int,
        report: Callable[[str], None] = lambda message: None,
    ):
        folders = kind_of(config.data).folders
        self.data = config.data
        self.tokenizers = tokenizers
        self.held_out = held_out
        self.tasks = tuple(dict.fromkeys((c.source, c.task) for c in config.mixture.components))
        self.passages = TEXT
        self.text_window = config.data.text_window
        self.reference = _REFERENCE
        self._max_prompt = max_prompt
        self._seed = seed
        self._report = report
        self._sources = {split: load_split(folders, split) for split in self.splits()}

    def splits(self) -> tuple[str, ...]:
        return ("train", self.held_out)

    def sources(self, split: str) -> Mapping[str, ExampleSource]:
        return self._sources[split]

    def pictures(self, split: str, count: int) -> list[DecodedPicture]:
        chosen = self._choose(split, IMAGES, count)
        if not chosen:
            return []
        self._report(f"decoding {len(chosen)} real pictures, {split}")
        codes = np.stack([example["image"] for _, _, example in chosen]).astype(np.int64)
        pixels = decode_pixels(self.tokenizers.image, torch.from_numpy(codes))
        return [
            DecodedPicture(
                key=f"{split}/{number}",
                concept=str(group),
                caption=self._text(example),
                codes=own,
                decoded=decoded,
            )
            for (number, group, example), own, decoded in zip(chosen, codes, pixels, strict=True)
        ]

    @torch.inference_mode()
    def recordings(self, split: str, count: int) -> list[DecodedRecording]:
        codec = self.tokenizers.speech
        chosen = self._choose(split, SPEECH, count)

        rows = []
        for number, _, example in chosen:
            voice, words = parse_transcript(self._text(example))
            if not words:
                continue
            codes = example["speech"].astype(np.int64)
            rows.append(
                DecodedRecording(
                    text=words,
                    voice=voice or DEFAULT_VOICE,
                    language=self._sources[split][SPEECH].language(number),
                    sample_rate=codec.sample_rate,
                    codes=codes,
                    decoded=codec.decode(torch.from_numpy(codes)).float().cpu().numpy(),
                )
            )
            self._report(f"decoding real recordings {len(rows)}/{len(chosen)}, {split}")
        return rows

    def texts(self, source: ExampleSource, count: int) -> list[str]:
        return [self._text(source.example(i)) for i in choose(source, count, self._seed)]

    def training_words(self) -> set[str]:
        """Return the words of at most 20,000 passages."""
        source = self._sources["train"].get(TEXT)
        texts = [] if source is None else self.texts(source, _WORDS_FROM)
        return {word for text in texts for word in normalize_words(text)}

    def as_json(self) -> dict[str, Any]:
        examples = {
            split: {name: len(source) for name, source in sources.items()}
            for split, sources in self._sources.items()
        }
        return {"type": "PreparedData", **to_dict(self.data), "examples": examples}

    def list_left_out(self) -> list[dict[str, str]]:
        found = []
        for task, (source, scores) in _NEEDS.items():
            if (source, task) not in self.tasks:
                found.append({"scores": scores, "why": f"the run was not trained on {task}"})
            elif source not in self._sources[self.held_out]:
                why = f"the data has no {source} in its {self.held_out} split, only in its training split"
                found.append({"scores": f"{scores} of unseen data", "why": why})
        for split, sources in self._sources.items():
            for name in (IMAGES, SPEECH):
                if name in sources:
                    lengths = sources[name].num_codes["text"]
                    long = int((lengths > self._max_prompt).sum())
                    why = f"their texts have more than {self._max_prompt} tokens, the maximum of a prompt"
                    found += [{"scores": f"{long} of the {name} in {split}", "why": why}] if long else []
        return found

    def _choose(self, split: str, name: str, count: int) -> list[tuple[int, int, Mapping[str, np.ndarray]]]:
        """Choose at most `count` examples whose text fits a prompt: (number, group, codes) of each."""
        source = self._sources[split].get(name)
        if source is None:
            return []
        lengths, groups = source.num_codes["text"], source.groups
        order = np.array(choose(source, len(source), self._seed))
        numbers = order[(lengths[order] > 0) & (lengths[order] <= self._max_prompt)][:count].tolist()
        return [(i, int(groups[i]), source.example(i)) for i in numbers]

    def _text(self, example: Mapping[str, np.ndarray]) -> str:
        return self.tokenizers.text.decode(example["text"][:, 0].tolist())
