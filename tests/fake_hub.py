"""A hub on this machine, as far as `huggingface_hub` asks one to look up, fetch and push a model."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

TOKEN = "hf_of_this_test"


@dataclass
class FakeHub:
    """Repositories by name: commits by hash, each a dictionary of files; branches and tags by name."""

    url: str = ""
    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    refs: dict[str, dict[str, str]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)

    def create(self, repo: str, *, private: bool = False) -> None:
        if repo not in self.commits:
            self.commits[repo], self.refs[repo] = {}, {}
            self.commit(repo, {})
            if private:
                self.private.add(repo)

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        text = f"{len(self.commits[repo])} " + json.dumps({k: v.hex() for k, v in sorted(files.items())})
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[repo][sha] = files
        self.refs[repo]["main"] = sha
        return sha

    def push(self, repo: str, folder: Path) -> str:
        """Put a folder there, as if somebody had pushed it."""
        self.create(repo)
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return self.commit(repo, files)

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        return self.commits[repo][self.refs[repo].get(revision, revision)]


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def answer(self, value: Any) -> None:
            self.send(200, json.dumps(value).encode(), Content_Type="application/json")

        def refuse(self, status: int, code: str) -> None:
            self.send(status, b"{}", X_Error_Code=code, X_Error_Message=code)

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        @property
        def is_known(self) -> bool:
            return self.headers.get("authorization") == f"Bearer {TOKEN}"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            words = [unquote(word) for word in urlsplit(self.path).path.strip("/").split("/")]
            is_api = words[:2] == ["api", "models"]
            repo = "/".join(words[2:4] if is_api else words[:2])
            rest = words[4:] if is_api else words[2:]
            if repo not in hub.commits or (repo in hub.private and not self.is_known):
                return self.refuse(404 if self.is_known else 401, "RepoNotFound")
            revision = rest[1] if len(rest) > 1 else "main"
            sha = hub.refs[repo].get(revision, revision)
            if sha not in hub.commits[repo]:
                return self.refuse(404, "RevisionNotFound")
            files = hub.commits[repo][sha]
            if not rest or rest[0] == "revision":
                return self.answer({"id": repo, "sha": sha, "siblings": [{"rfilename": f} for f in files]})
            if rest[0] == "tree":
                return self.answer(
                    [{"type": "file", "path": f, "size": len(c), "oid": _oid(c)} for f, c in files.items()]
                )
            name = "/".join(rest[2:])
            if name not in files:
                return self.refuse(404, "EntryNotFound")
            if self.command == "GET":
                hub.fetched.append(name)
            tag = f'"{_oid(files[name])}"'
            return self.send(200, files[name], ETag=tag, X_Repo_Commit=sha)

        def do_POST(self) -> None:
            body = self.body()
            words = [unquote(word) for word in urlsplit(self.path).path.strip("/").split("/")]
            if words[1:] == ["validate-yaml"]:
                return self.answer({"errors": [], "warnings": []})
            if not self.is_known:
                return self.refuse(401, "Unauthorized")
            if words[1:] == ["repos", "create"]:
                asked = json.loads(body)
                repo = f"{asked['organization']}/{asked['name']}"
                if repo in hub.commits:
                    return self.send(409, json.dumps({"url": f"{hub.url}/{repo}"}).encode())
                hub.create(repo, private=asked.get("visibility") == "private")
                return self.answer({"url": f"{hub.url}/{repo}"})
            repo = "/".join(words[2:4])
            if words[4] == "preupload":
                asked = [row["path"] for row in json.loads(body)["files"]]
                return self.answer(
                    {"files": [{"path": f, "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
                )
            assert words[4] == "commit"
            files = dict(hub.files(repo))
            for row in map(json.loads, body.decode().splitlines()):
                if row["key"] == "file":
                    files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
                elif row["key"] == "deletedFile":
                    del files[row["value"]["path"]]
            sha = hub.commit(repo, files)
            return self.answer({"commitUrl": f"{hub.url}/{repo}/commit/{sha}", "commitOid": sha})

    return Handler


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def open_hub(cache: Path) -> Iterator[FakeHub]:
    """Serve a hub, and make it the one that `huggingface_hub` asks, with `cache` in place of the user's."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setenv("HF_TOKEN", TOKEN)
        try:
            yield hub
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
