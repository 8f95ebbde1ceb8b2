"""The files of the playground, without a browser: what is sent to whom, and that nothing points elsewhere."""

import asyncio
import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

import trimask.serve
from serve.clients import running, tiny_service
from trimask.serve.app import create_app

ROOT = Path(__file__).parents[2]
FOLDER = Path(trimask.serve.__file__).parent / "assets" / "playground"
FILES = sorted(FOLDER.iterdir())
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def test_the_page_is_served_with_a_strict_policy_and_needs_no_key() -> None:
    async def ask() -> None:
        async with running(create_app(tiny_service(), keys=["secret"])) as client:
            for path in ["/", *(f"/playground/{file.name}" for file in FILES)]:
                answer = await client.get(path)
                assert answer.status_code == 200, path
                file = FOLDER / (Path(path).name or "index.html")
                assert answer.content == file.read_bytes()
                assert answer.headers["content-type"] == f"{TYPES[file.suffix]}; charset=utf-8"
                assert answer.headers["x-content-type-options"] == "nosniff"
                policy = dict(
                    part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
                )
                assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
                assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
                assert policy["frame-ancestors"] == "'none'" and "unsafe" not in str(policy)
            for path in ("/v1/models", "/v1/models/tiny"):
                assert (await client.get(path)).status_code == 401
            for path in (
                "/playground/",
                "/playground/gone.js",
                "/playground/..%2Fpage.py",
                "/playground/a/b",
            ):
                answer = await client.get(path)
                assert answer.status_code in (401, 404) and answer.json()["error"]["message"]

    asyncio.run(ask())


def test_the_page_is_no_part_of_the_api() -> None:
    assert not [
        path for path in create_app(tiny_service()).openapi()["paths"] if "playground" in path or path == "/"
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_points_elsewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400 and len(text) < 40_000
    code = re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)
    found = re.findall(r"(?:https?:|wss?:)?//[\w.-]+\.\w+[^\s\"']*", code)
    assert [each for each in found if each != "http://www.w3.org/2000/svg"] == []
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|new Function"
    assert not re.search(rf"\b({markup})\b", text)
    if file.suffix == ".html":
        assert not re.search(r"\s(on\w+|style)=", text) and not re.search(r"<script(?![^>]*\ssrc=)", text)
    for name in re.findall(r'(?:from "\./|(?:src|href)="playground/)([\w.]+)"', code):
        assert (FOLDER / name).is_file(), f"{file.name} needs {name}"


def test_every_file_is_used_and_ships() -> None:
    texts = {file.name: file.read_text(encoding="utf-8") for file in FILES}
    for name in texts.keys() - {"index.html"}:
        others = "".join(text for other, text in texts.items() if other != name)
        assert re.search(rf'["/]{re.escape(name)}"', others), f"nothing uses {name}"
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = configured["tool"]["setuptools"]["package-data"]["trimask"]
    for file in FILES:
        path = file.relative_to(ROOT / "src" / "trimask").as_posix()
        assert any(fnmatch.fnmatch(path, pattern.replace("**/", "*/")) for pattern in patterns), path
