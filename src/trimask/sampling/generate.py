"""`Generator`: prompts, images and waveforms in; text, images and waveforms out; for every task."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, final

import numpy as np
import PIL.Image
from jaxtyping import Int
from torch import Tensor

from trimask.errors import UserError
from trimask.model.denoiser import Denoiser
from trimask.sampling.codecs import AudioInput, Codecs, ImageInput
from trimask.sampling.filters import Temperature, TopP
from trimask.sampling.grid import Cosine
from trimask.sampling.length import LengthPolicy, warn_of_length
from trimask.sampling.order import Ancestral, Confidence, LeftToRightBlocks
from trimask.sampling.predictor import DenoiserPredictor, Predictor
from trimask.sampling.prompts import Seen
from trimask.sampling.request import check_example, check_request, shown
from trimask.sampling.sampler import SamplerConfig, sample
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.modality import CONDITION, Modality, Task
from trimask.vocabulary.sequence import Sequence as Document
from trimask.vocabulary.tokenizer import ImageCodec, SpeechCodec, TextCodec

_MOST_SAMPLES = 100_000  # all are described before the first is drawn
_MOST_FRAMES = 1000  # of a filmstrip: each is a picture
_TEXT = SamplerConfig(num_steps=64, order=Ancestral(), filters=(Temperature(value=0.8), TopP(value=0.95)))
_IMAGE = SamplerConfig(
    num_steps=32,
    grid=Cosine(),
    order=Ancestral(),
    filters=(Temperature(value=0.8),),
    guidance_scale=1.5,
)
_SPEECH = SamplerConfig(
    num_steps=32,
    grid=Cosine(),
    order=Confidence(noise_temperature=0.5),
    filters=(Temperature(value=0.8),),
    guidance_scale=2.0,
)
# In order of confidence alone the end tokens come first, and little is left for the words.
_CAPTION = SamplerConfig(
    num_steps=24,
    order=LeftToRightBlocks(block_length=4, inner=Confidence()),
    filters=(Temperature(value=0.0),),
)
_BOTH = replace(_IMAGE, order=Confidence(noise_temperature=0.5, codebook_penalty=5.0), guidance_scale=1.0)

DEFAULTS: Mapping[Task, SamplerConfig] = MappingProxyType(
    {
        Task.TEXT: _TEXT,
        Task.TEXT_TO_IMAGE: _IMAGE,
        Task.IMAGE_TO_TEXT: _CAPTION,
        Task.TEXT_TO_SPEECH: _SPEECH,
        Task.SPEECH_TO_TEXT: replace(_CAPTION, num_steps=64),
        Task.JOINT: _BOTH,
        Task.TRIPLE: _BOTH,
    }
)
"""How each task is sampled [D: compared on the shipped model, experiments/2026-11-22-sampling-defaults; the
intervals overlap]. Text is ancestral: in order of confidence it repeats itself."""


@final
@dataclass(frozen=True, kw_only=True)
class Generated:
    """What one sequence gave: only the targets of its task are set.

    Attributes:
        text: the text, without the voice's tag.
        image: RGB.
        waveform: mono float32 samples at `sample_rate` (Hz).
        is_complete: every span whose length varies came to its end.
        tokens: the sequence's tokens, as sampled.
    """

    task: Task
    text: str | None = None
    image: PIL.Image.Image | None = None
    waveform: np.ndarray | None = None
    sample_rate: int | None = None
    is_complete: bool = True
    tokens: np.ndarray

    @property
    def value(self) -> "str | PIL.Image.Image | tuple[np.ndarray, int] | Generated":
        """The text, the image, or (waveform, sample_rate); itself where the task has several targets."""
        if self.task in (Task.JOINT, Task.TRIPLE):
            return self
        if self.waveform is not None and self.sample_rate is not None:
            return self.waveform, self.sample_rate
        value = self.image if self.text is None else self.text
        assert value is not None
        return value


@final
class Generator:
    """A denoiser with its tokenizers. A tokenizer that the task does not need may be absent.

    `seen` is what it was trained on, as far as that is known: prompts are spelled as its data were.

    Raises: UserError when a tokenizer's geometry is not that of the vocabulary.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        text: TextCodec | None = None,
        image: ImageCodec | None = None,
        speech: SpeechCodec | None = None,
        lengths: LengthPolicy | None = None,
        defaults: Mapping[Task, SamplerConfig] = DEFAULTS,
        seen: Seen | None = None,
    ):
        self.predictor: Predictor = DenoiserPredictor(denoiser)
        self.vocabulary: Vocabulary = denoiser.vocabulary
        self.device = next(denoiser.parameters()).device
        if lengths is None:
            lengths = LengthPolicy() if speech is None else LengthPolicy().at(speech.frame_rate)
        self.lengths = lengths
        self.codecs = Codecs(
            vocabulary=denoiser.vocabulary, text=text, image=image, speech=speech, lengths=self.lengths
        )
        self.defaults = defaults
        self.seen = Seen() if seen is None else seen

    def generate(self, task: Task | str, prompt: str | None = None, **options: Any) -> Any:
        """One sample: the text, the PIL image or (waveform, sample_rate) itself; a `Generated` for `joint`
        and `triple`.

        Takes the options of `generate_each`, with a single `image` or `audio`.
        """
        return self.generate_many(task, prompt, **options)[0].value

    def generate_many(
        self, task: Task | str, prompt: str | Sequence[str] | None = None, **options: Any
    ) -> list[Generated]:
        """All that `generate_each` gives, which has the options."""
        return list(self.generate_each(task, prompt, **options))

    def generate_each(
        self,
        task: Task | str,
        prompt: str | Sequence[str] | None = None,
        *,
        image: ImageInput | Sequence[ImageInput] | None = None,
        audio: AudioInput | Sequence[AudioInput] | None = None,
        pair: str | None = None,
        voice: str | None = None,
        seed: int = 0,
        num_samples: int = 1,
        numbers: Sequence[int] | None = None,
        batch_size: int = 32,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        span_length: int | None = None,
        config: SamplerConfig | None = None,
        raw_prompt: bool = False,
    ) -> Iterator[Generated]:
        """`num_samples` results for each prompt (or image, or waveform), prompt by prompt, as they are made.

        Result k is the same at any `batch_size`, and whatever the other prompts are. All that is given is
        checked before the first is made.

        Args:
            task: what to generate.
            prompt: the caption or sentence, spelled as the model's data are where that is known; for `text`
                an optional beginning that the result keeps and goes on from.
            image: PIL image, file name or encoded bytes, for `image_to_text`: the model sees its middle
                square, as in training; or its codes (cells × codebooks, an integer array).
            audio: for `speech_to_text`, a file name or encoded bytes; (waveform, rate in Hz), of any rate
                and type, samples or samples × channels; or a waveform alone, at the speech tokenizer's rate;
                or its codes (frames × codebooks, an integer array).
            pair: "image" (the default) or "audio", the other side of `joint`.
            voice: who speaks, for `text_to_speech`, as the data's column has the name; by default the
                commonest voice.
            numbers: of each result, which with the seed fixes its noise; 0, 1, … by default.
            temperature: 0 takes the most probable code.
            span_length: frames of the target span, instead of the length policy's: text tokens, or speech
                frames.
            config: replaces the task's default; the single settings go on top of it.
            raw_prompt: take prompt and voice as they are spelled, and warn of neither.

        Raises:
            UserError: unknown task, or one that the model cannot do; a prompt that is missing, empty, too
                long or not used; an unknown voice; a picture or recording that cannot be read; a missing
                tokenizer; settings out of range.

        Warns:
            UntrainedTaskWarning: the model was trained on other tasks.
            UnseenPromptWarning: a prompt is far from what the model has seen.
            SpanTooShortWarning: no end came out; the result has is_complete=False.
            EmptySpanWarning: nothing came before the end.
        """
        task = _as_task(task)
        check_request(
            pair=pair,
            voice=voice,
            seed=seed,
            num_samples=num_samples,
            numbers=numbers,
            batch_size=batch_size,
            span_length=span_length,
            raw_prompt=raw_prompt,
        )
        examples = _align(task, prompt, image, audio)
        for example in examples:
            check_example(*example)
        for name, value in (("num_samples", num_samples), ("batch_size", batch_size)):
            if not 1 <= value <= _MOST_SAMPLES:
                raise UserError(f"{name} is {value}: give at least 1, at most {_MOST_SAMPLES:,} at a time")
        chosen = self.settings(
            task,
            config=config,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            temperature=temperature,
            top_p=top_p,
        )
        if guidance_scale not in (None, 1.0) and CONDITION[task] is None:
            raise UserError(
                f"guidance_scale {guidance_scale} has nothing to act on: task {task.value} has no condition"
            )
        self._check_task(task, pair)
        if not raw_prompt and task == Task.TEXT_TO_SPEECH:
            voice = self.seen.voice(voice)
        asked = [(p if raw_prompt or p is None else self.seen.prompt(task, p), i, a) for p, i, a in examples]
        documents = [
            self.codecs.document(
                task, prompt=p, image=i, audio=a, pair=pair, voice=voice, span_length=span_length
            )
            for p, i, a in asked
            for _ in range(num_samples)
        ]
        for p, _, _ in asked:
            if p is not None and not raw_prompt:
                self.seen.warn_of_unseen(task, p, stacklevel=3)
        numbers = range(len(documents)) if numbers is None else numbers
        if len(numbers) != len(documents):
            raise UserError(
                f"numbers has {len(numbers)} items: give one for each of {len(documents)} results"
            )
        return self._each(documents, numbers, chosen, seed=seed, batch_size=batch_size)

    def settings(self, task: Task, *, config: SamplerConfig | None = None, **settings: Any) -> SamplerConfig:
        """How `task` is sampled: by `config`, or else its default, with single settings on top."""
        check_request(config=config, **settings)
        return (self.defaults[task] if config is None else config).adjusted(**settings)

    def _check_task(self, task: Task, pair: str | None) -> None:
        other = None if task != Task.JOINT else Modality.AUDIO if pair == "audio" else Modality.IMAGE
        self.seen.check_task(task, pair=other, stacklevel=4)

    def _each(
        self,
        documents: list[Document],
        numbers: Sequence[int],
        config: SamplerConfig,
        *,
        seed: int,
        batch_size: int,
    ) -> Iterator[Generated]:
        for start in range(0, len(documents), batch_size):
            here = slice(start, start + batch_size)
            tokens = self._sample(documents[here], numbers[here], config, seed=seed)
            for document, row in zip(documents[here], tokens, strict=True):
                yield self._decode(document, row)

    def filmstrip(
        self, prompt: str, *, num_frames: int = 6, seed: int = 0, raw_prompt: bool = False, **settings: Any
    ) -> list[PIL.Image.Image]:
        """How the image of `prompt` is unmasked: pictures evenly spread over the steps, cells greyed by their
        masked share.

        What is revealed stays, so every picture is the finished one under grey cells. The last is the image
        that `generate("text_to_image", prompt, seed=seed, **settings)` gives. Settings: those of
        `SamplerConfig.adjusted`.
        """
        check_example(prompt, None, None)
        check_request(seed=seed, raw_prompt=raw_prompt, num_frames=num_frames)
        if prompt is None:
            raise UserError("a filmstrip needs a prompt: none was given")
        if not 2 <= num_frames <= _MOST_FRAMES:
            raise UserError(
                f"num_frames is {num_frames}: give at least 2, the first and the last, and at most "
                f"{_MOST_FRAMES:,}"
            )
        spelled = prompt if raw_prompt else self.seen.prompt(Task.TEXT_TO_IMAGE, prompt)
        document = self.codecs.document(Task.TEXT_TO_IMAGE, prompt=spelled)
        config = self.settings(Task.TEXT_TO_IMAGE, **settings)
        cells = slice(*document.spans[Modality.IMAGE])
        mask_id, num_codebooks = self.vocabulary.mask(Modality.IMAGE), self.vocabulary.image.num_codebooks
        masked: list[np.ndarray] = []

        def note(step: int, z: Tensor) -> None:
            masked.append((z[0, cells] == mask_id).reshape(-1, num_codebooks).double().mean(1).cpu().numpy())

        image = self._decode(
            document, self._sample([document], [0], config, seed=seed, callback=note)[0]
        ).image
        assert image is not None
        shown = np.linspace(0, len(masked) - 1, num_frames).round().astype(int)
        return [self.codecs.veil(image, masked[step]) for step in shown]

    def _sample(
        self,
        documents: list[Document],
        numbers: Sequence[int],
        config: SamplerConfig,
        *,
        seed: int,
        callback: Any = None,
    ) -> Int[np.ndarray, "rows slots"]:
        batch = make_batch(documents, numbers).to(self.device)
        return sample(self.predictor, batch, config, seed=seed, callback=callback).cpu().numpy()

    def _decode(self, document: Document, row: Int[np.ndarray, "slots"]) -> Generated:
        """Turn the targets of one sequence into what they stand for; warn of spans that were too short."""
        tokens = row[: document.num_slots]
        found: dict[str, Any] = {}
        is_all_complete = True
        for modality, (start, stop) in document.spans.items():
            if modality == CONDITION[document.task]:
                continue
            span = tokens[start:stop].reshape(-1, self.vocabulary.space(modality).num_codebooks)
            codes, is_complete = self.vocabulary.codes(modality, span)
            is_all_complete &= is_complete
            warn_of_length(
                modality.name.lower(),
                span_length=len(span),
                is_complete=is_complete,
                is_empty=len(codes) == 0,
                mend=_mend(document, modality),
                stacklevel=3,
            )
            if modality == Modality.TEXT:
                found["text"] = self.codecs.decode_text(codes, is_spoken=_is_spoken(document))
            elif modality == Modality.IMAGE:
                found["image"] = self.codecs.decode_image(codes)
            else:
                found["waveform"], found["sample_rate"] = self.codecs.decode_speech(codes)
        return Generated(task=document.task, is_complete=is_all_complete, tokens=tokens, **found)


def _is_spoken(document: Document) -> bool:
    """Whether the text is a transcript, with a voice's tag; the text of a triple is the image's caption."""
    return Modality.AUDIO in document.spans and document.task != Task.TRIPLE


def _mend(document: Document, modality: Modality) -> str:
    """How to give a span more room."""
    if document.task not in (Task.JOINT, Task.TRIPLE):
        return "raise span_length"
    if _is_spoken(document):
        return "try another seed, or raise LengthPolicy.spoken_characters"
    is_text = modality == Modality.TEXT
    name = "joint_caption_length" if is_text else "caption_characters"
    return f"try another seed, or raise LengthPolicy.{name}"


def _as_task(task: Task | str) -> Task:
    if not isinstance(task, str) or task not in set(Task):
        raise UserError(f"unknown task {shown(task)}: choose one of {', '.join(Task)}")
    return Task(task)


def _is_many(value: Any) -> bool:
    """A tuple that ends in a number is a waveform and its rate."""
    is_recording = isinstance(value, tuple) and len(value) == 2 and np.isscalar(value[1])
    return isinstance(value, list | tuple) and not (is_recording and not isinstance(value[1], str))


def _align(task: Task, prompt: Any, image: Any, audio: Any) -> list[tuple[Any, Any, Any]]:
    """(prompt, image, audio) of each example: the one that is a sequence says how many there are."""
    given = {"prompt": prompt, "image": image, "audio": audio}
    many = [name for name, value in given.items() if _is_many(value)]
    if len(many) > 1:
        raise UserError(f"task {task.value} takes one list, not {' and '.join(many)}")
    if not many:
        return [(prompt, image, audio)]
    if not given[many[0]]:
        raise UserError(f"{many[0]} is an empty list: give at least one")
    return [tuple((given | {many[0]: value}).values()) for value in given[many[0]]]
