"""The bodies of requests: OpenAI's fields where clients send them, ours beside them, and no others."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Text = Annotated[str, Field(max_length=1_000_000)]
_Name = Annotated[str, Field(max_length=256)]
_Zero = Annotated[float, Field(ge=0, le=0)]
_Scalar = bool | int | float | _Name | None
Stops = Annotated[list[_Name], Field(max_length=8)]


class Settings(BaseModel):
    """How to sample: fields that any request takes. None leaves the model's own setting."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, data: Any) -> Any:
        """Clients send null for what is not given."""
        return (
            {key: value for key, value in data.items() if value is not None}
            if isinstance(data, dict)
            else data
        )

    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    num_steps: Annotated[int, Field(ge=1)] | None = None
    guidance_scale: float | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    preset: _Name | None = None
    order: _Name | None = None
    negative_prompt: _Text | None = None
    raw_prompt: bool = False
    sampler: Annotated[dict[_Name, _Scalar], Field(max_length=64)] = {}


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = False


class CompletionRequest(Settings):
    """POST /v1/completions. `suffix` is what comes after the text: it is written into the gap. Penalties are
    for clients that always send them, as 0; `user` changes nothing.
    """

    model: _Name
    prompt: _Text | Annotated[list[_Text], Field(min_length=1, max_length=64)]
    suffix: _Text | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1)] = 1
    stop: _Name | Stops | None = None
    echo: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    frequency_penalty: _Zero = 0.0
    presence_penalty: _Zero = 0.0
    user: _Name | None = None


class ImageRequest(Settings):
    """POST /v1/images/generations. `user` changes nothing."""

    prompt: _Text
    model: _Name | None = None
    n: Annotated[int, Field(ge=1)] | None = 1
    size: _Name | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "webp", "jpeg"] | None = None
    stream: bool | None = False
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    user: _Name | None = None


class Voice(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: _Name


class SpeechRequest(Settings):
    """POST /v1/audio/speech. The voice `default` is the one that the model has heard most."""

    input: _Text
    model: _Name
    voice: _Name | Voice
    response_format: _Name = "mp3"
    speed: float = 1.0
    stream_format: Literal["audio", "sse"] = "audio"
    span_length: Annotated[int, Field(ge=1)] | None = None


class TranscriptionForm(Settings):
    """POST /v1/audio/transcriptions, beside its `file`."""

    model: _Name
    language: _Name | None = None
    prompt: _Text | None = None
    response_format: _Name = "json"
    stream: bool = False
    span_length: Annotated[int, Field(ge=1)] | None = None


class EditForm(ImageRequest):
    """POST /v1/images/edits, beside its `image` and `mask`."""


class CanvasRequest(Settings):
    """POST /v1/canvas: any task, any part of its targets given, the rest masked.

    `image`, `mask` and `speech` are base64 of a file; the mask is white where the picture is to be painted.
    Codes are frames × codebooks, −1 where they are to be generated; those of `text` stand in place of a
    prompt. Every `previews`-th pass is shown as what it decodes to.
    """

    task: _Name
    model: _Name | None = None
    prompt: _Text | None = None
    image: str | None = None
    mask: str | None = None
    speech: str | None = None
    seconds: tuple[float, float] | None = None
    codes: dict[_Name, list[list[int]]] | None = None
    pair: _Name | None = None
    voice: _Name | None = None
    span_length: Annotated[int, Field(ge=1)] | None = None
    previews: Annotated[int, Field(ge=0)] = 0


Body = dict[str, Any]
"""A JSON object of an answer."""
