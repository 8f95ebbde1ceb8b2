"""What /openapi.json says beyond what routes say of themselves: forms, errors, and other types than JSON."""

from typing import Any

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every error."""

    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": ErrorBody, "description": "An error"}}


def describe_answers(*types: str) -> dict[int | str, dict[str, Any]]:
    """Describe the media types of a route's answers."""
    return {200: {"description": "Done", "content": {name: {} for name in types}}}


def describe_form(fields: type[BaseModel], *files: str) -> dict[str, Any]:
    """Describe a multipart form; the first file is required."""
    schema = fields.model_json_schema()
    schema["properties"] |= {name: {"type": "string", "format": "binary"} for name in files}
    schema["required"] = [*schema.get("required", []), files[0]]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
