"""Encode a user's inputs as a sequence with masked targets; decode codes into text, images and waveforms.

The conventions are those of the training data: image captions are merged text tokens, also in a triple; a
transcript is spelled in lower case after a tag that names the voice ("slt: good morning").
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, final

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, Int

from trimask.errors import UserError
from trimask.generation.given import Encoded, load_pixels, load_waveform
from trimask.generation.infill import MaskInput, Partial, has_gaps, read_gaps, read_mask, read_seconds
from trimask.generation.length import LengthPolicy
from trimask.generation.request import describe_value
from trimask.pixels import to_bytes, to_pixels
from trimask.sampling.length import LONGEST_SPAN
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence
from trimask.vocabulary.task import MODALITIES, Task
from trimask.vocabulary.tokenizer import ImageCodec, SpeechCodec, TextCodec
from trimask.vocabulary.transcript import (
    DEFAULT_VOICE,
    is_transcript,
    parse_transcript,
    transcript,
    voice_tag,
)

ImageInput = PIL.Image.Image | Encoded | np.ndarray
"""A picture, or its codes (cells × codebooks)."""
SpeechInput = np.ndarray | tuple[np.ndarray, int] | Encoded
"""A recording, or its codes (frames × codebooks)."""
DEFAULT_PAIR = "image"
_GREY = 128
_Codec = TypeVar("_Codec")


@final
@dataclass(frozen=True, kw_only=True)
class Codecs:
    """The tokenizers of a model (each optional) and its span lengths.

    Raises: UserError when a tokenizer's geometry differs from the vocabulary's.
    """

    vocabulary: Vocabulary
    lengths: LengthPolicy
    text: TextCodec | None = None
    image: ImageCodec | None = None
    speech: SpeechCodec | None = None

    def __post_init__(self) -> None:
        if self.text is not None:
            _check("text", self.vocabulary.space("text"), 1, self.text.vocabulary_size)
        if self.image is not None:
            space = self.vocabulary.space("image")
            _check("image", space, self.image.num_codebooks, self.image.codebook_size)
            if tuple(self.image.grid) != self.vocabulary.space("image").grid:
                raise UserError(
                    f"the image tokenizer has grid {self.image.grid}, "
                    f"the vocabulary {self.vocabulary.space('image').grid}"
                )
        if self.speech is not None:
            space = self.vocabulary.space("speech")
            _check("speech", space, self.speech.num_codebooks, self.speech.codebook_size)

    def document(
        self,
        task: str,
        given: Mapping[str, Any],
        *,
        pair: str | None = None,
        voice: str | None = None,
        span_length: int | None = None,
        mask: MaskInput | None = None,
        seconds: tuple[float, float] | None = None,
    ) -> Sequence:
        """Build the sequence to fill: condition codes in place, targets zero or given in part. Check all
        inputs.

        Args:
            given: the inputs by modality.
            mask: which part of a given target picture to generate.
            seconds: which part of a given target recording to generate, from A to B.
        """
        row = self.vocabulary.task(task)
        spans = choose_spans(row, pair)
        targets = row.targets_of(spans)
        _check_parts(row, targets, given, mask=mask, seconds=seconds)
        self._check_given(row, spans, given, pair=pair, voice=voice, span_length=span_length)
        spoken_by = (voice or DEFAULT_VOICE) if is_transcript(spans) else None
        for modality in targets:
            self._need(modality)
        codes = {m: self.encode(m, given[m], voice=spoken_by) for m in row.condition}
        parts = {
            m: self._read_part(m, given[m], mask, seconds, voice=spoken_by)
            for m in targets
            if given.get(m) is not None and not _is_beginning(row, m, given)
        }
        if parts and span_length is not None:
            what = " and ".join(parts)
            raise UserError(f"span_length {span_length} has nothing to act on: {what} is given in part")
        codes |= {modality: part.codes for modality, part in parts.items()}
        known = {m: len(span) for m, span in codes.items()}
        if "text" in known:
            known["text"] = self._count_bytes(given["text"])
        for modality in targets:
            if modality in parts:
                continue
            space = self.vocabulary.space(modality)
            if space.grid is not None:
                length = space.grid[0] * space.grid[1]
            else:
                length = span_length or self.lengths.frames_of(modality, spans, known)
            codes[modality] = np.zeros((length, space.num_codebooks), dtype=np.int64)
        num_end = {modality: int(self.vocabulary.space(modality).has_end) for modality in parts}
        sequence = build_sequence(self.vocabulary, task, codes, num_end=num_end)
        if parts:
            return _keep_parts(sequence, parts)
        has_beginning = any(given.get(m) is not None for m in targets)
        return self._keep_prefix(sequence, given["text"]) if has_beginning else sequence

    def _count_bytes(self, text: Any) -> int:
        known = text if isinstance(text, str) else self.decode_text(text[text[:, 0] >= 0], is_spoken=False)
        return len(known.strip().encode())

    def decode_text(self, codes: Int[np.ndarray, "frames 1"], *, is_spoken: bool) -> str:
        """Decode text; drop the voice tag of a transcript."""
        text = self._need_text().decode(codes[:, 0].tolist()) if len(codes) else ""
        return parse_transcript(text)[1] if is_spoken else text

    @torch.inference_mode()
    def decode_image(self, codes: Int[np.ndarray, "cells codebooks"]) -> PIL.Image.Image:
        """Decode an RGB picture."""
        return PIL.Image.fromarray(to_bytes(self._need_image().decode(torch.from_numpy(codes)[None]))[0])

    @torch.inference_mode()
    def decode_speech(
        self, codes: Int[np.ndarray, "frames codebooks"]
    ) -> tuple[Float[np.ndarray, "samples"], int]:
        """Decode a mono waveform; return it with its rate in Hz."""
        codec = self._need_speech()
        if not len(codes):
            return np.zeros(0, dtype=np.float32), codec.sample_rate
        return codec.decode(torch.from_numpy(codes)).float().cpu().numpy(), codec.sample_rate

    def veil(self, image: PIL.Image.Image, masked: Float[np.ndarray, "cells"]) -> PIL.Image.Image:
        """Mix each cell of `image` with grey in proportion to its `masked` share."""
        grid = self.vocabulary.space("image").grid
        assert grid is not None
        share = (masked.reshape(grid) * 255).round().astype(np.uint8)
        cover = PIL.Image.fromarray(share).resize(image.size, PIL.Image.Resampling.NEAREST)
        return PIL.Image.composite(PIL.Image.new("RGB", image.size, (_GREY,) * 3), image, cover)

    def _keep_prefix(self, sequence: Sequence, prefix: str) -> Sequence:
        """Put `prefix` unmasked at the start of a text passage."""
        start, stop = sequence.spans["text"]
        codes, length = self._encode_text(prefix, is_prefix=True), stop - start
        if len(codes) >= length:
            raise UserError(f"the prompt takes {len(codes)} of the span's {length} tokens: raise span_length")
        tokens, maskable = sequence.tokens.copy(), sequence.maskable.copy()
        tokens[start : start + len(codes)] = self.vocabulary.tokens("text", codes)[:, 0]
        maskable[start : start + len(codes)] = False
        return replace(sequence, tokens=tokens, maskable=maskable)

    def _read_part(
        self,
        modality: str,
        value: Any,
        mask: MaskInput | None,
        seconds: tuple[float, float] | None,
        *,
        voice: str | None,
    ) -> Partial:
        """Encode a target that is given in part, or whole among several targets."""
        if modality == "text" and isinstance(value, str):
            codec = self._need_text()
            if voice is None:
                return read_gaps(value, codec.encode)
            spell = partial(codec.encode, is_spelled=True)
            return read_gaps(transcript(value, voice), spell, is_spelled=True)
        codes = self.encode(modality, value, voice=None)
        if modality == "image" and mask is not None:
            grid, codec = self.vocabulary.space("image").grid, self._need_image()
            assert grid is not None
            _check_sizes(value, mask)
            return read_mask(mask, codes, grid, codec.image_size)
        if modality == "speech" and seconds is not None:
            return read_seconds(seconds, codes, self._need_speech().frame_rate)
        return Partial.of_codes(codes)

    def encode(self, modality: str, value: Any, *, voice: str | None) -> Int[np.ndarray, "frames codebooks"]:
        """Encode a condition; a transcript is spoken by `voice`."""
        if modality == "text":
            return self._encode_text(value, voice=voice)
        if modality == "image":
            return self._encode_image(value)
        if modality == "speech":
            return self._encode_speech(value)
        return value.astype(np.int64)

    def _encode_text(
        self, prompt: Any, *, voice: str | None = None, is_prefix: bool = False
    ) -> Int[np.ndarray, "frames 1"]:
        if isinstance(prompt, np.ndarray):
            return prompt.astype(np.int64)
        if not prompt.strip():
            raise UserError(f"the prompt {prompt!r} is empty: give some text")
        codec = self._need_text()
        if voice is None:
            ids = codec.encode(prompt if is_prefix else prompt.strip())
        else:
            ids = codec.encode(transcript(prompt, voice), is_spelled=True)
        if len(ids) > self.lengths.max_prompt:
            raise UserError(
                f"the prompt takes {len(ids)} tokens, but the limit is {self.lengths.max_prompt}: shorten it"
            )
        return np.array(ids, dtype=np.int64).reshape(-1, 1)

    @torch.inference_mode()
    def _encode_image(self, image: ImageInput) -> Int[np.ndarray, "cells codebooks"]:
        codec = self._need_image()
        if isinstance(image, np.ndarray):
            return image.astype(np.int64)
        pixels = to_pixels(load_pixels(image, codec.image_size)[None])
        return codec.encode(pixels)[0].cpu().numpy().astype(np.int64)

    @torch.inference_mode()
    def _encode_speech(self, speech: SpeechInput) -> Int[np.ndarray, "frames codebooks"]:
        codec = self._need_speech()
        if isinstance(speech, np.ndarray) and speech.dtype.kind in "iu" and speech.ndim == 2:
            if len(speech) > LONGEST_SPAN:
                raise UserError(f"speech has {len(speech)} frames of codes: give at most {LONGEST_SPAN:,}")
            return speech.astype(np.int64)
        waveform = torch.from_numpy(load_waveform(speech, codec.sample_rate))
        return codec.encode(waveform).cpu().numpy().astype(np.int64)

    def _need(self, modality: str) -> None:
        """Raise UserError if the modality needs a tokenizer and has none; other modalities use codes
        directly.
        """
        if modality in MODALITIES:
            _need(getattr(self, modality), modality)

    def _need_text(self) -> TextCodec:
        return _need(self.text, "text")

    def _need_image(self) -> ImageCodec:
        return _need(self.image, "image")

    def _need_speech(self) -> SpeechCodec:
        return _need(self.speech, "speech")

    def _check_given(
        self,
        task: Task,
        spans: tuple[str, ...],
        given: Mapping[str, Any],
        *,
        pair: str | None,
        voice: str | None,
        span_length: int | None,
    ) -> None:
        """Raise UserError for a missing or unused input."""
        for modality, value in given.items():
            name = "prompt" if modality == "text" else modality
            if value is not None and modality not in spans:
                raise UserError(f"task {task.name} has no use for {name}: leave it out")
        for modality in task.condition:
            if given.get(modality) is None:
                name = "prompt" if modality == "text" else modality
                raise UserError(f"task {task.name} needs {name}: none was given")
        targets = task.targets_of(spans)
        if span_length is not None:
            if not 1 <= span_length <= LONGEST_SPAN:
                raise UserError(f"span_length is {span_length}: give at least 1, at most {LONGEST_SPAN:,}")
            if not any(self.vocabulary.space(modality).has_end for modality in targets):
                raise UserError(
                    f"span_length {span_length} has nothing to act on: the size of {targets[0]} is fixed"
                )
            if len(targets) > 1:
                raise UserError(
                    f"span_length {span_length} is ambiguous for task {task.name}: set the LengthPolicy "
                    "instead"
                )
        # A default given explicitly, as the command line does, is not an error.
        if pair not in (None, DEFAULT_PAIR) and len(task.spans) == 1:
            raise UserError(f"task {task.name} has no use for pair: leave it out")
        is_voiced = isinstance(given.get("text"), str) and is_transcript(spans)
        if voice not in (None, DEFAULT_VOICE) and not (is_voiced and voice_tag(voice)):
            raise UserError(
                f"voice {describe_value(voice)} has no effect on task {task.name}: "
                "name one voice, for text_to_speech"
            )


def _check_parts(
    task: Task,
    targets: tuple[str, ...],
    given: Mapping[str, Any],
    *,
    mask: MaskInput | None,
    seconds: tuple[float, float] | None,
) -> None:
    """Raise UserError for parts of targets that nothing is said about, and for parts of nothing."""
    for name, value, modality in (("mask", mask, "image"), ("seconds", seconds, "speech")):
        if value is not None and (modality not in targets or given.get(modality) is None):
            raise UserError(
                f"{name} says which part of a given {modality} to generate, and task {task.name} gets none "
                f"that it generates: leave it out, or give {modality} to a task such as text_to_{modality}"
            )
    whole = []
    for modality in targets:
        value = given.get(modality)
        if value is None or _is_beginning(task, modality, given):
            return
        is_part = (
            (modality == "text" and isinstance(value, str) and has_gaps(value))
            or (modality == "image" and mask is not None)
            or (modality == "speech" and seconds is not None)
            or (isinstance(value, np.ndarray) and value.dtype.kind in "iu" and (value == -1).any())
        )
        if is_part:
            return
        whole.append(modality)
    remedies = {
        "text": "mark gaps in the prompt, [____] with one underscore for each token",
        "image": "give a mask that is white where it is to be painted",
        "speech": "give seconds, from A to B",
    }
    how = " or ".join(remedies.get(m, f"set codes of {m} to -1") for m in whole)
    names = " and ".join("prompt" if modality == "text" else modality for modality in whole)
    raise UserError(f"task {task.name} generates {names}, and all of it is given: leave it out, or {how}")


def _is_beginning(task: Task, modality: str, given: Mapping[str, Any]) -> bool:
    """Return whether a given target is the beginning of a text, which is continued."""
    text = given[modality]
    return modality == "text" and task.is_alone and isinstance(text, str) and not has_gaps(text)


def _check_sizes(picture: Any, mask: MaskInput) -> None:
    """Raise UserError if picture and mask are cropped differently."""
    both = [each for each in (picture, mask) if isinstance(each, PIL.Image.Image)]
    if len(both) == 2 and both[0].size != both[1].size:
        raise UserError(
            f"the mask has {both[1].width} x {both[1].height} pixels and the picture {both[0].width} x "
            f"{both[0].height}: make them equal"
        )


def _keep_parts(sequence: Sequence, parts: Mapping[str, Partial]) -> Sequence:
    """Leave only the parts of targets maskable that are to be generated."""
    maskable = sequence.maskable.copy()
    for modality, part in parts.items():
        start, stop = sequence.spans[modality]
        maskable[start:stop] = False
        maskable[start : start + part.fill.size] = part.fill.reshape(-1)
    return replace(sequence, maskable=maskable)


def choose_spans(task: Task, pair: str | None) -> tuple[str, ...]:
    """Return the spans of the requested sequence: for a task with several kinds, the first that has `pair`.

    Raises:
        UserError: no kind has it.
    """
    if pair is None or len(task.spans) == 1:
        return task.spans[0]
    common = set(task.spans[0]).intersection(*task.spans[1:])
    for spans in task.spans:
        if pair in set(spans) - common:
            return spans
    sides = dict.fromkeys(side for spans in task.spans for side in spans if side not in common)
    raise UserError(f"pair is {pair!r}: choose {' or '.join(sides)}")


def _need(codec: _Codec | None, name: str) -> _Codec:
    if codec is None:
        raise UserError(f"the task needs the {name} tokenizer, but this model was loaded without one")
    return codec


def _check(name: str, space: CodeSpace, num_codebooks: int, codebook_size: int) -> None:
    if (num_codebooks, codebook_size) != (space.num_codebooks, space.codebook_size):
        raise UserError(
            f"the {name} tokenizer has {num_codebooks} codebooks of {codebook_size} codes, "
            f"the vocabulary {space.num_codebooks} of {space.codebook_size}: "
            "load the one that the model was trained with"
        )
