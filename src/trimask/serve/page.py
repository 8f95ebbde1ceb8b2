"""GET /: the playground, a static page of this package; it asks nothing of any other address."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

from trimask.serve.errors import ApiError

OPEN = "/playground/"
"""The files of the page: they need no key, as the page itself, which asks for one."""
_FOLDER = files("trimask.serve") / "assets" / "playground"
_INDEX = "index.html"
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "media-src": "blob: data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def make_router() -> APIRouter:
    """Make the routes of the page. Its files are read once."""
    router = APIRouter(include_in_schema=False)
    read = {each.name: each.read_bytes() for each in _FOLDER.iterdir() if each.name[0] not in "._"}

    @router.get("/", response_model=None)
    async def show() -> Response:
        return _answer(_INDEX)

    @router.get(OPEN + "{name}", response_model=None)
    async def give(name: str) -> Response:
        return _answer(name)

    def _answer(name: str) -> Response:
        kind = _TYPES.get(name.rpartition(".")[2])
        if name not in read or kind is None:
            raise ApiError(404, f"the playground has no file {name[:100]!r}", code="not_found")
        return Response(read[name], media_type=f"{kind}; charset=utf-8", headers=HEADERS)

    return router
