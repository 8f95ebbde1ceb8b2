"""From what a user gives to a sequence with masked targets, and from codes to what a user wants.

The conventions are those of the training data: captions of images are merged text tokens, in a triple too;
a transcript is spelled, lower-case, behind a tag that names the voice ("slt: good morning").
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar, final

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, Int

from trimask.errors import UserError
from trimask.pixels import to_bytes, to_pixels
from trimask.sampling.given import Encoded, given_pixels, given_waveform
from trimask.sampling.length import LengthPolicy
from trimask.sampling.request import shown
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence
from trimask.vocabulary.tokenizer import ImageCodec, SpeechCodec, TextCodec
from trimask.vocabulary.transcript import DEFAULT_VOICE, parse_transcript, transcript, voice_tag

ImageInput = PIL.Image.Image | Encoded | np.ndarray
"""A picture, or its codes (cells × codebooks)."""
AudioInput = np.ndarray | tuple[np.ndarray, int] | Encoded
"""A recording, or its codes (frames × codebooks)."""
DEFAULT_PAIR = "image"
_GREY = 128
_LONGEST_SPAN = 65_536  # frames: far beyond what is trained on, within what memory holds
_Codec = TypeVar("_Codec")


@final
@dataclass(frozen=True, kw_only=True)
class Codecs:
    """The tokenizers of a model, each of which may be absent, and the lengths of spans.

    Raises: UserError when a tokenizer's geometry is not that of the vocabulary.
    """

    vocabulary: Vocabulary
    lengths: LengthPolicy
    text: TextCodec | None = None
    image: ImageCodec | None = None
    speech: SpeechCodec | None = None

    def __post_init__(self) -> None:
        if self.text is not None:
            _check("text", self.vocabulary.text, 1, self.text.vocabulary_size)
        if self.image is not None:
            _check("image", self.vocabulary.image, self.image.num_codebooks, self.image.codebook_size)
            if tuple(self.image.grid) != self.vocabulary.image.grid:
                raise UserError(
                    f"the image tokenizer has grid {self.image.grid}, "
                    f"the vocabulary {self.vocabulary.image.grid}"
                )
        if self.speech is not None:
            _check("speech", self.vocabulary.audio, self.speech.num_codebooks, self.speech.codebook_size)

    def document(
        self,
        task: str,
        *,
        prompt: str | None = None,
        image: ImageInput | None = None,
        audio: AudioInput | None = None,
        pair: str | None = None,
        voice: str | None = None,
        span_length: int | None = None,
    ) -> Sequence:
        """The sequence to fill: condition codes in place, targets zero. Checks all that the user gave."""
        given = {"text": prompt, "image": image, "speech": audio}
        _check_given(task, given, pair=pair, voice=voice, span_length=span_length)
        if task == "text":
            return self._passage(prompt, span_length)
        if task == "text_to_image":
            assert prompt is not None
            return self._build(task, {"text": self._encode_text(prompt)}, self._image_span())
        if task == "image_to_text":
            assert image is not None
            codes = {"image": self._encode_image(image)}
            return self._build(task, codes, {"text": span_length or self.lengths.caption_length})
        if task == "text_to_speech":
            assert prompt is not None
            frames = span_length or self.lengths.speech_frames(len(prompt.strip().encode()))
            codes = {"text": self._encode_text(prompt, voice=voice or DEFAULT_VOICE)}
            return self._build(task, codes, {"speech": frames})
        if task == "speech_to_text":
            assert audio is not None
            codes = self._encode_speech(audio)
            length = span_length or self.lengths.transcript_length(len(codes))
            return self._build(task, {"speech": codes}, {"text": length})
        return self._build(task, {}, self._joint_spans(task, pair or DEFAULT_PAIR))

    def decode_text(self, codes: Int[np.ndarray, "frames 1"], *, is_spoken: bool) -> str:
        """Text of the codes; a transcript loses the voice's tag."""
        text = self._need_text().decode(codes[:, 0].tolist()) if len(codes) else ""
        return parse_transcript(text)[1] if is_spoken else text

    @torch.inference_mode()
    def decode_image(self, codes: Int[np.ndarray, "cells codebooks"]) -> PIL.Image.Image:
        """RGB picture of the codes."""
        return PIL.Image.fromarray(to_bytes(self._need_image().decode(torch.from_numpy(codes)[None]))[0])

    @torch.inference_mode()
    def decode_speech(
        self, codes: Int[np.ndarray, "frames codebooks"]
    ) -> tuple[Float[np.ndarray, "samples"], int]:
        """Mono waveform of the codes and its rate in Hz."""
        codec = self._need_speech()
        if not len(codes):
            return np.zeros(0, dtype=np.float32), codec.sample_rate
        return codec.decode(torch.from_numpy(codes)).float().cpu().numpy(), codec.sample_rate

    def veil(self, image: PIL.Image.Image, masked: Float[np.ndarray, "cells"]) -> PIL.Image.Image:
        """`image` with each cell mixed with grey by its `masked` share."""
        grid = self.vocabulary.image.grid
        assert grid is not None
        share = (masked.reshape(grid) * 255).round().astype(np.uint8)
        cover = PIL.Image.fromarray(share).resize(image.size, PIL.Image.Resampling.NEAREST)
        return PIL.Image.composite(PIL.Image.new("RGB", image.size, (_GREY,) * 3), image, cover)

    def _passage(self, prefix: str | None, span_length: int | None) -> Sequence:
        """A text span; a prefix stands clean at its start."""
        self._need_text()
        length = span_length or self.lengths.text_length
        sequence = self._build("text", {}, {"text": length})
        if prefix is None:
            return sequence
        codes = self._encode_text(prefix, is_prefix=True)
        if len(codes) >= length:
            raise UserError(f"the prompt takes {len(codes)} of the span's {length} tokens: raise span_length")
        start, _ = sequence.spans["text"]
        tokens, maskable = sequence.tokens.copy(), sequence.maskable.copy()
        tokens[start : start + len(codes)] = self.vocabulary.tokens("text", codes)[:, 0]
        maskable[start : start + len(codes)] = False
        return replace(sequence, tokens=tokens, maskable=maskable)

    def _joint_spans(self, task: str, pair: str) -> dict[str, int]:
        """Target spans of a task that generates everything."""
        if pair not in ("image", "audio"):
            raise UserError(f"pair is {pair!r}: choose image or audio")
        caption = {"text": self.lengths.joint_caption_length, **self._image_span()}
        if task == "triple":
            return {**caption, "speech": self.lengths.speech_frames(self.lengths.caption_characters)}
        if pair == "image":
            return caption
        frames = self.lengths.speech_frames(self.lengths.spoken_characters)
        return {"text": self.lengths.spoken_length, "speech": frames}

    def _image_span(self) -> dict[str, int]:
        grid = self.vocabulary.image.grid
        assert grid is not None
        return {"image": grid[0] * grid[1]}

    def _build(
        self,
        task: str,
        condition: dict[str, Int[np.ndarray, "frames codebooks"]],
        targets: dict[str, int],
    ) -> Sequence:
        for modality in targets:
            (self._need_text, self._need_image, self._need_speech)[modality]()
        spans = {
            m: np.zeros((n, self.vocabulary.space(m).num_codebooks), dtype=np.int64)
            for m, n in targets.items()
        }
        return build_sequence(self.vocabulary, task, {**condition, **spans})

    def _encode_text(
        self, prompt: str, *, voice: str | None = None, is_prefix: bool = False
    ) -> Int[np.ndarray, "frames 1"]:
        if not prompt.strip():
            raise UserError(f"the prompt {prompt!r} is empty: give some text")
        codec = self._need_text()
        if voice is None:
            ids = codec.encode(prompt if is_prefix else prompt.strip())
        else:
            ids = codec.encode(transcript(prompt, voice), is_spelled=True)
        if len(ids) > self.lengths.max_prompt:
            raise UserError(
                f"the prompt takes {len(ids)} tokens, and {self.lengths.max_prompt} is the most: shorten it"
            )
        return np.array(ids, dtype=np.int64).reshape(-1, 1)

    @torch.inference_mode()
    def _encode_image(self, image: ImageInput) -> Int[np.ndarray, "cells codebooks"]:
        codec = self._need_image()
        if isinstance(image, np.ndarray):
            return image.astype(np.int64)
        pixels = to_pixels(given_pixels(image, codec.image_size)[None])
        return codec.encode(pixels)[0].cpu().numpy().astype(np.int64)

    @torch.inference_mode()
    def _encode_speech(self, audio: AudioInput) -> Int[np.ndarray, "frames codebooks"]:
        codec = self._need_speech()
        if isinstance(audio, np.ndarray) and audio.dtype.kind in "iu" and audio.ndim == 2:
            if not 1 <= len(audio) <= _LONGEST_SPAN:
                raise UserError(f"audio has {len(audio)} frames of codes: give 1 to {_LONGEST_SPAN:,}")
            return audio.astype(np.int64)
        waveform = torch.from_numpy(given_waveform(audio, codec.sample_rate))
        return codec.encode(waveform).cpu().numpy().astype(np.int64)

    def _need_text(self) -> TextCodec:
        return _need(self.text, "text")

    def _need_image(self) -> ImageCodec:
        return _need(self.image, "image")

    def _need_speech(self) -> SpeechCodec:
        return _need(self.speech, "speech")


def _need(codec: _Codec | None, name: str) -> _Codec:
    if codec is None:
        raise UserError(f"the task needs the {name} tokenizer, and this model was loaded without one")
    return codec


def _check(name: str, space: CodeSpace, num_codebooks: int, codebook_size: int) -> None:
    if (num_codebooks, codebook_size) != (space.num_codebooks, space.codebook_size):
        raise UserError(
            f"the {name} tokenizer has {num_codebooks} codebooks of {codebook_size} codes, "
            f"the vocabulary {space.num_codebooks} of {space.codebook_size}: "
            "load the one that the model was trained with"
        )


def _check_given(
    task: str,
    given: Mapping[str, object],
    *,
    pair: str | None,
    voice: str | None,
    span_length: int | None,
) -> None:
    """UserError for what the task lacks, or has no use for."""
    condition = CONDITION[task]
    names = {"text": "prompt", "image": "image", "speech": "audio"}
    for modality, value in given.items():
        is_prefix = task == "text" and modality == "text"
        if value is None and modality == condition:
            raise UserError(f"task {task} needs {names[modality]}: none was given")
        if value is not None and modality != condition and not is_prefix:
            raise UserError(f"task {task} has no use for {names[modality]}: leave it out")
    if span_length is not None and not 1 <= span_length <= _LONGEST_SPAN:
        raise UserError(f"span_length is {span_length}: give at least 1, at most {_LONGEST_SPAN:,}")
    if span_length is not None and task == "text_to_image":
        raise UserError(f"span_length {span_length} has nothing to act on: an image's size is fixed")
    if span_length is not None and task in ("joint", "triple"):
        raise UserError(
            f"span_length {span_length} is ambiguous for task {task}: set the LengthPolicy instead"
        )
    # Defaults spelled out, as a command line does, are no request.
    if pair not in (None, DEFAULT_PAIR) and task != "joint":
        raise UserError(f"task {task} has no use for pair: leave it out")
    if voice not in (None, DEFAULT_VOICE) and (task != "text_to_speech" or not voice_tag(voice)):
        raise UserError(
            f"voice {shown(voice)} is of no use for task {task}: name one voice, for text_to_speech"
        )
