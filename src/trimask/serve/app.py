"""The HTTP application: routes, and one shape for every error."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from trimask import __version__
from trimask.errors import UserError
from trimask.serve import audio, canvas, completions, images, page
from trimask.serve.described import ERRORS, describe_answers
from trimask.serve.errors import ApiError, explain, explain_invalid
from trimask.serve.gate import Gate
from trimask.serve.metrics import Metrics
from trimask.serve.models import describe_model
from trimask.serve.scheduler import Busy
from trimask.serve.service import Service


def create_app(
    service: Service,
    *,
    keys: Sequence[str] | None = None,
    hosts: Sequence[str] | None = None,
    origins: Sequence[str] = (),
) -> FastAPI:
    """Make the application. The thread of the models runs while the application does, and carries out what it
    has taken before it ends.

    Args:
        keys: if given, each request needs one of them.
        hosts: if given, the names that requests may call this server by.
        origins: of pages of other servers that may call and read answers; "*" is any.
    """
    metrics = Metrics(service.worker.schedulers)

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        service.worker.stop()

    app = FastAPI(
        title="trimask",
        version=__version__,
        lifespan=live,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=ERRORS,
    )
    for part in (completions, images, audio, canvas):
        app.include_router(part.make_router(service))

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [model.description for model in service.models.values()]}

    @app.get("/v1/models/{model:path}")
    async def get_model(model: str) -> dict[str, Any]:
        served = service.find(model)
        described = describe_model(served.generator, served.presets, service.limits)
        return served.description | described

    @app.get("/health", response_model=None)
    async def tell_health() -> JSONResponse:
        schedulers = service.worker.schedulers
        held = {name: {"requests": each.num_jobs, "rows": each.num_rows} for name, each in schedulers.items()}
        status = "ok" if service.worker.is_alive else "failed"
        return JSONResponse({"status": status, "models": held}, 200 if status == "ok" else 503)

    @app.get("/metrics", response_model=None, responses=describe_answers("text/plain"))
    async def tell_metrics() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    app.include_router(page.make_router())
    _add_handlers(app)
    app.add_middleware(Gate, keys=keys, hosts=hosts, origins=origins, limits=service.limits, metrics=metrics)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "x-seed", "x-sample-rate", "x-warnings", "retry-after"],
        )
    return app


def _add_handlers(app: FastAPI) -> None:
    async def tell(request: Request, error: Exception) -> JSONResponse:
        return respond(explain(error, _fields_of(request)))

    async def tell_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        what = f"{request.method} {request.url.path[:200]}"
        if isinstance(error.__cause__, ValueError | RecursionError):  # too large a number, too deep, no text
            return respond(ApiError(400, "the body is not JSON", code="invalid_json"))
        messages: Mapping[int, str] = {
            404: f"there is no {what}: see /openapi.json",
            405: f"{what} is not a method of this address",
        }
        message = messages.get(error.status_code, str(error.detail))
        return respond(ApiError(error.status_code, message, headers=error.headers))

    async def tell_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return respond(explain_invalid(error.errors()))

    for kind in (ApiError, Busy, UserError, MemoryError, Exception):
        app.add_exception_handler(kind, tell)
    app.add_exception_handler(HTTPException, tell_http)
    app.add_exception_handler(RequestValidationError, tell_invalid)


def respond(error: ApiError) -> JSONResponse:
    """Answer with an error."""
    return JSONResponse(error.body, error.status, error.headers)


def _fields_of(request: Request) -> Sequence[str]:
    """Return the fields of the body or form that a route takes, to name the one that an error is about."""
    route = request.scope.get("route")
    form = (getattr(route, "openapi_extra", None) or {}).get("requestBody")
    if form is not None:
        return tuple(form["content"]["multipart/form-data"]["schema"]["properties"])
    field = getattr(route, "body_field", None)
    model = getattr(getattr(field, "field_info", None), "annotation", None)
    return tuple(getattr(model, "model_fields", ()))
