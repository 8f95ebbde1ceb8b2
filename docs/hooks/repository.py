"""Bring README and the files that pages link to into the site, which is read far from the repository.

README is the home page. Any other file outside docs/ that a page of the site links to gets a page of its own
under repository/: documents as they are, sources as code, folders as lists. Other files are copied. Links are
rewritten to these places. A list right below a line of text is a list, as on GitHub: Python-Markdown asks for
a blank line between them.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PLACE = "repository"
HOME = "README.md"
SOURCES = {".py", ".sh", ".slurm", ".yaml", ".yml", ".toml", ".csv", ".json", ".jsonl", ".txt", ".cff", ""}
ITEM = re.compile(r"(?:[-*]|1\.) ")
FENCE = re.compile(r" *(`{3,}|~{3,})")
LINK = re.compile(r"(\]\()([^()#:\s]+)((?:#[^()\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README, and all that is linked."""
    waiting = [HOME, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        origin = waiting.pop()
        if place_of(origin) not in files.src_uris:
            files.append(_make(origin, config))
        for target in _targets(origin):
            if target not in seen and not target.startswith("docs/"):
                seen.add(target)
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page to where their targets stand in the site."""
    origin, here = _origin(page.file.src_uri), posixpath.dirname(page.file.src_uri)

    def rewrite(match: re.Match[str]) -> str:
        target = _resolve(origin, match[2])
        return match[1] + posixpath.relpath(place_of(target), here or ".") + match[3]

    return separate_lists(LINK.sub(rewrite, markdown)) if origin.endswith(".md") else markdown


def separate_lists(markdown: str) -> str:
    """Put a blank line between a paragraph and the list that follows it, outside of code."""
    lines: list[str] = []
    fence, in_paragraph = "", False
    for line in markdown.split("\n"):
        if ITEM.match(line) and in_paragraph and not fence:
            lines.append("")
        lines.append(line)
        if mark := FENCE.match(line):
            fence = "" if mark[1] == fence else fence or mark[1]
        # A list goes on until a blank line and a line of text at the margin.
        if not line.strip() or ITEM.match(line) or fence or mark:
            in_paragraph = False
        elif len(lines) == 1 or not lines[-2].strip() or lines[-2][0] == "#":
            in_paragraph = line[0] not in " #|"
    return "\n".join(lines)


def place_of(path: str) -> str:
    """Return where a file of the repository stands in the site's sources."""
    if path == HOME:
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"{PLACE}/{path}/index.md"
    is_source = not path.endswith(".md") and Path(path).suffix in SOURCES
    return f"{PLACE}/{path}.md" if is_source else f"{PLACE}/{path}"


def _origin(uri: str) -> str:
    if uri == "index.md":
        return HOME
    return uri.removeprefix(f"{PLACE}/") if uri.startswith(f"{PLACE}/") else f"docs/{uri}"


def _targets(origin: str) -> list[str]:
    if not origin.endswith(".md"):
        return []
    text = (ROOT / origin).read_text(encoding="utf-8")
    return [_resolve(origin, match[2]) for match in LINK.finditer(text)]


def _resolve(origin: str, link: str) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    if path.startswith("..") or not (ROOT / path).exists():
        raise PluginError(f"{origin} links to {link}, which is not in the repository")
    return path


def _make(path: str, config: MkDocsConfig) -> File:
    place, file = place_of(path), ROOT / path
    if file.is_dir():
        lines = "\n".join(f"- `{each.name}`" for each in sorted(file.iterdir()) if each.name[0] not in "._")
        return File.generated(config, place, content=f"# `{path}`\n\n{lines}\n")
    if place == f"{PLACE}/{path}.md":
        text = file.read_text(encoding="utf-8")
        kind = file.suffix.removeprefix(".") or "text"
        return File.generated(config, place, content=f"# `{path}`\n\n`````{kind}\n{text}\n`````\n")
    return File.generated(config, place, abs_src_path=str(file))
