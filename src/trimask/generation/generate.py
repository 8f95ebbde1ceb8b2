"""`Generator`: generate text, images and waveforms from prompts, images and waveforms, for every task."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
import PIL.Image

from trimask.config import override
from trimask.errors import UserError
from trimask.generation.chain import run_chain
from trimask.generation.codecs import Codecs, ImageInput, SpeechInput, choose_spans
from trimask.generation.doubts import doubt
from trimask.generation.generated import Generated
from trimask.generation.guides import Guide, prepare_guides
from trimask.generation.infill import MaskInput
from trimask.generation.keys import number_alike
from trimask.generation.length import (
    LengthPolicy,
    check_length_rule,
)
from trimask.generation.prompts import Seen
from trimask.generation.request import align_examples, check_example, check_request, describe_value
from trimask.generation.results import Results
from trimask.model.denoiser import Denoiser
from trimask.sampling.config import SamplerConfig
from trimask.sampling.defaults import DEFAULTS, OTHER, Samplers
from trimask.sampling.length import Given
from trimask.sampling.predictor import DenoiserPredictor, Predictor
from trimask.sampling.sampler import Event
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.task import Task
from trimask.vocabulary.tokenizer import ImageCodec, SpeechCodec, TextCodec
from trimask.vocabulary.transcript import is_transcript

_MOST_SAMPLES = 100_000  # all sequences are built before the first is sampled
_MOST_FRAMES = 1000  # of a filmstrip: each is a picture


class UntunedTaskWarning(UserWarning):
    """The chosen preset has no settings for this task."""


@final
class Generator:
    """A denoiser with its tokenizers. A tokenizer that no requested task needs may be absent.

    `samplers` are the sampler settings by task name. `seen` describes the training data, if known: prompts
    are respelled like it. `predictor` computes the denoiser's predictions: torch by default, or another of
    `BACKENDS`, or one of your own. `tuned` are the tasks that a preset has settings for, if there is one.

    Raises: UserError when a tokenizer's geometry, or the predictor's vocabulary, differs from the
    denoiser's.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        text: TextCodec | None = None,
        image: ImageCodec | None = None,
        speech: SpeechCodec | None = None,
        lengths: LengthPolicy | None = None,
        samplers: Mapping[str, SamplerConfig] = DEFAULTS,
        seen: Seen | None = None,
        predictor: Predictor | None = None,
        tuned: Collection[str] | None = None,
    ):
        self.predictor: Predictor = DenoiserPredictor(denoiser) if predictor is None else predictor
        if self.predictor.vocabulary != denoiser.vocabulary:
            raise UserError("the predictor has another vocabulary than the denoiser: make it from this one")
        self.vocabulary: Vocabulary = denoiser.vocabulary
        self.device = self.predictor.device
        if lengths is None:
            lengths = LengthPolicy() if speech is None else LengthPolicy().at(speech.frame_rate)
        self.lengths = lengths
        self.codecs = Codecs(
            vocabulary=denoiser.vocabulary, text=text, image=image, speech=speech, lengths=self.lengths
        )
        self.samplers: Mapping[str, SamplerConfig] = samplers
        self.seen = Seen() if seen is None else seen
        self.tuned = tuned

    def generate(self, task: str, prompt: str | None = None, **options: Any) -> Any:
        """Generate one sample: the text, PIL image or (waveform, sample_rate); a `Generated` for `joint` and
        `triple`.

        Takes the options of `generate_each`, with a single `image` or `speech`.
        """
        return self.generate_many(task, prompt, **options)[0].value

    def generate_many(
        self, task: str, prompt: str | Sequence[str] | None = None, **options: Any
    ) -> list[Generated]:
        """Return all results of `generate_each`, with the same options."""
        return list(self.generate_each(task, prompt, **options))

    def generate_each(
        self,
        task: str,
        prompt: str | Sequence[str] | None = None,
        *,
        image: ImageInput | Sequence[ImageInput] | None = None,
        speech: SpeechInput | Sequence[SpeechInput] | None = None,
        codes: Mapping[str, np.ndarray | Sequence[np.ndarray]] | None = None,
        pair: str | None = None,
        voice: str | None = None,
        seed: int = 0,
        num_samples: int = 1,
        numbers: Sequence[int] | None = None,
        batch_size: int = 32,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        guides: Sequence[Guide] = (),
        temperature: float | None = None,
        top_p: float | None = None,
        span_length: int | None = None,
        mask: MaskInput | None = None,
        seconds: tuple[float, float] | None = None,
        config: SamplerConfig | None = None,
        raw_prompt: bool = False,
        callback: Callable[[Event], None] | None = None,
    ) -> Results:
        """Yield `num_samples` results for each prompt (or image, or waveform), in order, as they are
        generated.

        A result depends on its own inputs, `seed` and its number alone, not on `batch_size`, the other
        prompts or their order. All inputs are checked before the first result is generated.

        Args:
            task: what to generate.
            prompt: the caption or sentence, respelled like the training data if that is known; for `text` an
                optional beginning, which the result continues.
            image: PIL image, file name or encoded bytes, for `image_to_text`: the model sees its middle
                square, as in training; or its codes (cells × codebooks, an integer array).
            speech: for `speech_to_text`, a file name or encoded bytes; (waveform, rate in Hz) of any rate and
                type, samples or samples × channels; a waveform at the speech tokenizer's rate; or its codes
                (frames × codebooks, an integer array).
            codes: of modalities without a tokenizer, by name (integer arrays, frames × codebooks); of `text`
                in place of a prompt: they are taken as they are.
            pair: "image" (the default) or "speech", the other side of `joint`.
            voice: the speaker, for `text_to_speech`, as named in the training data; by default the most
                common voice.
            numbers: one per result; the seed, the result's inputs and its number determine its noise. By
                default, results of the same inputs are numbered 0, 1, …
            guidance_scale: how strongly the conditions act; 1 is as in the model, without guidance.
            negative_prompt: what guidance leads away from, in place of no condition.
            guides: further conditions of each result, with weights of their own.
            temperature: 0 takes the most probable code.
            span_length: length of the target span in text tokens or speech frames, instead of the length
                policy's; the sampler's `length` rule is not asked then.
            mask: with `image` for a task that generates pictures: generate only where the mask is white
                (a picture like `image`, or one boolean per cell, rows × columns). A text that is generated
                is given in part by gaps in the prompt, `the [____] of the king`, one token for each
                underscore; codes are generated where they are -1.
            seconds: with `speech` for a task that generates speech: generate only from A to B.
            config: replaces the task's default; the individual settings override it.
            raw_prompt: use prompt and voice exactly as given, without warnings.
            callback: called for each result before its first pass and after each one.

        Raises:
            UserError: an unknown task, or one that the model cannot do; a missing, empty, overlong or unused
                prompt; an unknown voice; an unreadable picture or recording; a missing tokenizer; settings
                out of range.

        Warns:
            UntrainedTaskWarning: the model was trained on other tasks.
            UntunedTaskWarning: the preset has no settings for this task.
            UnseenPromptWarning: a prompt is far from what the model has seen.
            SpanTooShortWarning: no end token was generated; the result has is_complete=False.
            EmptySpanWarning: nothing was generated before the end token.
        """
        row = self.task(task)
        check_request(
            pair=pair,
            voice=voice,
            seed=seed,
            num_samples=num_samples,
            numbers=numbers,
            batch_size=batch_size,
            span_length=span_length,
            mask=mask,
            seconds=seconds,
            raw_prompt=raw_prompt,
            negative_prompt=negative_prompt,
            callback=callback,
            codes=codes,
        )
        if prompt is not None and "text" in (codes or {}):
            raise UserError("codes has text, which prompt gives: give one of them")
        examples = align_examples(
            row.name, {"text": prompt, "image": image, "speech": speech, **(codes or {})}
        )
        for example in examples:
            check_example(example)
        for name, value in (("num_samples", num_samples), ("batch_size", batch_size)):
            if not 1 <= value <= _MOST_SAMPLES:
                raise UserError(f"{name} is {value}: give at least 1, at most {_MOST_SAMPLES:,} at a time")
        chosen = self.settings(
            row.name,
            config=config,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            temperature=temperature,
            top_p=top_p,
        )
        if guidance_scale not in (None, 1.0) and not row.condition:
            raise UserError(
                f"guidance_scale {guidance_scale} has nothing to act on: task {row.name} has no condition"
            )
        spans = choose_spans(row, pair)
        check_length_rule(self.vocabulary, row, spans, chosen)
        if span_length is not None:
            chosen = replace(chosen, length=Given())  # a length that is given is final
        self.seen.check_task(row, spans, self.vocabulary.tasks, stacklevel=3)
        if config is None and self.tuned is not None and row.name not in self.tuned:
            message = f"the preset has no settings for {row.name}: the run's own are used"
            doubt(message, UntunedTaskWarning, stacklevel=2)
        if not raw_prompt and prompt is not None and is_transcript(spans):
            voice = self.seen.voice(voice)
        guidance = prepare_guides(
            self.codecs,
            None if raw_prompt else self.seen,
            row,
            spans,
            chosen,
            negative_prompt=negative_prompt,
            guides=guides,
            voice=voice,
        )
        asked = examples if raw_prompt else [self._respell(row, example) for example in examples]
        documents = [
            self.codecs.document(
                row.name,
                example,
                pair=pair,
                voice=voice,
                span_length=span_length,
                mask=mask,
                seconds=seconds,
            )
            for example in asked
            for _ in range(num_samples)
        ]
        for example in asked:
            if isinstance(example["text"], str) and not raw_prompt:
                self.seen.warn_if_unseen(row, example["text"], stacklevel=3)
        numbers = number_alike(documents) if numbers is None else numbers
        if len(numbers) != len(documents):
            raise UserError(
                f"numbers has {len(numbers)} items: give one for each of {len(documents)} results"
            )
        return Results(
            self.predictor,
            self.codecs,
            documents,
            numbers,
            chosen,
            guidance,
            seed=seed,
            batch_size=batch_size,
            callback=callback,
        )

    def chain(
        self, tasks: Sequence[str], prompt: str | None = None, *, seed: int = 0, **inputs: Any
    ) -> list[Generated]:
        """Carry out tasks one after the other, each on what is given or was generated before; return all
        results: `chain(("text_to_image", "image_to_text", "text_to_speech"), "strawberry")`.

        Takes `image`, `speech`, `codes` and the options of `generate_each` that fit all tasks. See
        `trimask.generation.chain.run_chain`.
        """
        return run_chain(self, tasks, prompt, seed=seed, **inputs)

    def task(self, name: str) -> Task:
        """Return the row of a task. UserError: the model has no such task."""
        names = [task.name for task in self.vocabulary.tasks]
        if not isinstance(name, str) or name not in names:
            raise UserError(f"unknown task {describe_value(name)}: choose one of {', '.join(names)}")
        return self.vocabulary.task(name)

    def settings(self, task: str, *, config: SamplerConfig | None = None, **settings: Any) -> SamplerConfig:
        """Return the sampler settings of `task`: `config` or the model's own, overridden by individual
        settings."""
        check_request(config=config, **settings)
        chosen = self.samplers.get(task, OTHER) if config is None else config
        chosen.check_task(self.task(task))
        return chosen.adjust(**settings)

    def override(self, values: Mapping[str, str]) -> None:
        """Override sampler settings by dotted path, as in a run's configuration: `{"sampler.text.order":
        "Confidence", "sampler.text.order.noise_temperature": "1"}`.

        Raises:
            UserError: no such path, or a value that does not fit.
        """
        whole = {task.name: self.samplers.get(task.name, OTHER) for task in self.vocabulary.tasks}
        self.samplers = override(Samplers(sampler=whole), values).sampler
        for task in self.vocabulary.tasks:
            self.samplers[task.name].check_task(task)

    def _respell(self, task: Task, given: dict[str, Any]) -> dict[str, Any]:
        text = given["text"]
        return given if not isinstance(text, str) else {**given, "text": self.seen.prompt(task, text)}

    def filmstrip(
        self,
        prompt: str,
        *,
        num_frames: int = 6,
        seed: int = 0,
        raw_prompt: bool = False,
        negative_prompt: str | None = None,
        guides: Sequence[Guide] = (),
        **settings: Any,
    ) -> list[PIL.Image.Image]:
        """Show how the image of `prompt` is unmasked: pictures evenly spread over the steps, cells greyed by
        their masked share.

        Every picture is the finished one under grey cells. The last equals
        `generate("text_to_image", prompt, seed=seed, **settings)`. Settings: those of `SamplerConfig.adjust`.
        """
        check_example({"text": prompt})
        check_request(
            seed=seed, raw_prompt=raw_prompt, num_frames=num_frames, negative_prompt=negative_prompt
        )
        if prompt is None:
            raise UserError("a filmstrip needs a prompt: give one")
        if not 2 <= num_frames <= _MOST_FRAMES:
            raise UserError(
                f"num_frames is {num_frames}: give at least 2, the first and the last, and at most "
                f"{_MOST_FRAMES:,}"
            )
        task, seen = self.task("text_to_image"), None if raw_prompt else self.seen
        config = self.settings(task.name, **settings)
        guidance = prepare_guides(
            self.codecs, seen, task, task.spans[0], config, negative_prompt=negative_prompt, guides=guides
        )
        document = self.codecs.document(task.name, {"text": seen.prompt(task, prompt) if seen else prompt})
        start, stop = document.spans["image"]
        masked = np.ones(stop - start)
        shares: list[np.ndarray] = []

        def note(event: Event) -> None:
            masked[event.revealed - start] = 0
            masked[event.remasked - start] = 1
            shares.append(masked.reshape(-1, self.vocabulary.space("image").num_codebooks).mean(1))

        (made,) = Results(
            self.predictor,
            self.codecs,
            [document],
            [0],
            config,
            guidance,
            seed=seed,
            batch_size=1,
            callback=note,
        )
        assert made.image is not None
        chosen = np.linspace(0, len(shares) - 1, num_frames).round().astype(int)
        return [self.codecs.veil(made.image, shares[step]) for step in chosen]
