"""`trimask serve`: answer requests over HTTP."""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, final

import tyro

from trimask.cli.arguments import Verb, check_range, choose, closest
from trimask.cli.console import print_json, say
from trimask.cli.failure import Failed, UsageError, convert_file_errors
from trimask.cli.sample import BACKENDS
from trimask.errors import UserError
from trimask.reading import read_text
from trimask.runs.hub import is_hub_name

_LIBRARIES = ("fastapi", "uvicorn", "pydantic", "python_multipart", "prometheus_client")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/?#@\s]+")
_LONGEST_NAME = 256  # of what requests may give
_MOST = 100_000
_MOST_POSITIONS = 1_000_000_000


def _arg(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


@final
@dataclass(frozen=True, kw_only=True)
class Serve(Verb):
    """Answer requests over HTTP, in the shapes of OpenAI's API: text, pictures, speech, and any task at once.

    Requests share each step of the sampler, and each gets what it would get alone. Ctrl-C or SIGTERM carries
    out what is under way. Needs the extra `serve`.
    """

    models: Annotated[tyro.conf.Positional[tuple[str, ...]], _arg("RUN…")]
    """run directories, exported files or folders, names on the hub (owner/name), or `quickstart`; NAME=RUN
    serves one by a name of your own"""
    host: Annotated[str, _arg("ADDRESS")] = "127.0.0.1"
    """address to listen at: by default this machine alone can reach it"""
    port: Annotated[int, _arg("N")] = 8000
    """port to listen at; 0 takes a free one"""
    api_keys: Annotated[Path | None, _arg("FILE")] = None
    """a file of keys, one per line: requests must have one of them (Authorization: Bearer KEY)"""
    preset: Annotated[str | None, _arg("NAME")] = None
    """sampler settings of all models: fast, balanced or best of the runs' own presets"""
    backend: Annotated[str, _arg("torch|torch-compiled|onnx|onnx-int8")] = BACKENDS[0]
    """what computes the models, as in `trimask sample`"""
    most_rows: Annotated[int, _arg("N")] = 32
    """results of a model that are filled at the same time"""
    most_positions: Annotated[int | None, _arg("N")] = None
    """positions that a pass of the network computes: they bound its memory. One result always fits.
    By default 2,048 on a CPU, 16,384 elsewhere"""
    most_requests: Annotated[int, _arg("N")] = 256
    """requests to a model that are held at the same time; others are told to come back (429)"""
    receive_seconds: Annotated[float, _arg("SECONDS")] = 30.0
    """within which the head of a request must arrive, and then its body"""
    allow_origin: Annotated[str | None, _arg("ORIGIN")] = None
    """the server whose pages may call, such as https://example.org; * is any. By default none but ours may"""
    patience: Annotated[int, _arg("SECONDS")] = 60
    """the longest wait for what is under way when the server is stopped"""
    json: bool = False
    """print one JSON object on stdout as soon as requests are answered"""

    def run(self, overrides: Mapping[str, str]) -> int:
        choose("backend", self.backend, BACKENDS)
        check_range("--port", self.port, 0, 65_535)
        check_range("--most-rows", self.most_rows, 1, _MOST)
        check_range("--most-positions", self.most_positions, 1, _MOST_POSITIONS)
        check_range("--most-requests", self.most_requests, 1, _MOST)
        check_range("--receive-seconds", self.receive_seconds, 0.1, _MOST)
        check_range("--patience", self.patience, 0, _MOST)
        if self.allow_origin is not None and not _ORIGIN.fullmatch(self.allow_origin):
            fix = "give scheme and host alone, such as https://example.org, or *"
            raise UsageError(f"--allow-origin is {self.allow_origin!r}: {fix}")
        named = self._name_models()
        keys = None if self.api_keys is None else _read_keys(self.api_keys)
        missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
        if missing:
            raise Failed(f"{missing[0]} is not installed: pip install 'trimask[serve]'")
        from trimask.serve import server

        try:
            listener = server.bind(self.host, self.port)
        except UserError as error:
            raise Failed(str(error)) from error
        with listener:
            self._serve(named, keys, listener)
        return 0

    def _serve(self, named: Mapping[str, str], keys: tuple[str, ...] | None, listener: Any) -> None:
        from trimask.runs.load import load_with_presets
        from trimask.serve import server
        from trimask.serve.app import create_app
        from trimask.serve.limits import Limits
        from trimask.serve.service import Service

        with convert_file_errors():
            loaded = {
                name: load_with_presets(run, backend=self.backend, preset=self.preset, warn=_warn)
                for name, run in named.items()
            }
        service = Service(
            {name: generator for name, (generator, _) in loaded.items()},
            presets={name: presets for name, (_, presets) in loaded.items()},
            limits=Limits(receive_seconds=self.receive_seconds),
            most_rows=self.most_rows,
            most_positions=self.most_positions,
            most_jobs=self.most_requests,
        )
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

        def tell() -> None:
            if self.host not in _LOOPBACK and keys is None:
                say(f"warning: whoever reaches {host} may use the models: --api-keys FILE asks for a key")
            say(f"serving {', '.join(named)} at {url}/v1, playground at {url}/")
            if self.json:
                print_json({"url": f"{url}/v1", "playground": f"{url}/", "models": list(named)})

        hosts = (*_LOOPBACK, "[::1]") if self.host in _LOOPBACK else None
        origins = () if self.allow_origin is None else (self.allow_origin,)
        app = create_app(service, keys=keys, hosts=hosts, origins=origins)
        server.run(
            app,
            listener,
            when_ready=tell,
            patience=self.patience,
            head_seconds=self.receive_seconds,
        )
        say("stopped")

    def _name_models(self) -> dict[str, str]:
        """Return the models by the names that requests give."""
        if not self.models:
            raise UsageError("no model to serve: give a run directory, an exported file, or quickstart")
        named: dict[str, str] = {}
        for given in self.models:
            name, equals, run = given.partition("=")
            if not equals or Path(given).exists():
                name, run = Path(given).resolve().name if given != "quickstart" else given, given
            if not name or not run:
                raise UsageError(f"{given!r} is no NAME=RUN: give both")
            if name in (".", "..") or not name.isprintable() or len(name) > _LONGEST_NAME:
                raise UsageError(
                    f"{name[:100]!r} can be no model's name in an address: name it, as in other={run}"
                )
            if name in named:
                raise UsageError(f"two models have the name {name}: name one, as in other={run}")
            if run != "quickstart" and not Path(run).exists() and not is_hub_name(run):
                beside = [str(each) for each in Path(run).parent.glob("*") if each.is_dir()]
                close = closest(run, ["quickstart", *beside])
                fix = f"did you mean {' or '.join(close)}?" if close else "give one, or quickstart"
                raise UsageError(f"{run} is not a run directory: {fix}")
            named[name] = run
        return named


def _warn(problem: str) -> None:
    """Tell of presets that cannot be used, which no request may ask for then."""
    say(f"warning: {problem}")


def _read_keys(path: Path) -> tuple[str, ...]:
    with convert_file_errors():
        keys = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not keys or not all(key.isascii() and key.isprintable() for key in keys):
        raise UsageError(f"{path} has no keys, or some that no header can hold: give one a line, in ASCII")
    return keys
