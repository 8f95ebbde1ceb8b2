"""The site of docs/ builds without a warning, and can be read without a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trimask

ROOT = Path(__file__).parents[2]
LOADED = re.compile(
    r"""<(?:script|img|iframe|link rel=["']?stylesheet)[^>]*?(?:src|href)=["']?(https?:)?//"""
)
ORIGINAL = re.compile(r"::: ([\w.]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    unreachable = dict.fromkeys(
        ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | unreachable | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return folder


def test_each_document_is_a_page(site: Path) -> None:
    documents = {
        path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")
    }
    assert not {page for page in documents if not (site / page).is_file()}
    assert (site / "index.html").read_text("utf-8").count("quickstart") > 1  # README


def test_each_document_is_in_the_navigation(site: Path) -> None:
    listed = (ROOT / "mkdocs.yml").read_text("utf-8")
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert not [page for page in pages if f" {page}\n" not in listed]


def test_lists_are_lists(site: Path) -> None:
    """GitHub starts a list right below a line of text; a page of the site must, too."""
    run_on = re.compile(r"<p>(?:(?!</p>).)*?\n(?:[-*]|1\.) ", re.DOTALL)
    assert not [page for page in site.rglob("*.html") if run_on.search(page.read_text("utf-8"))]


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    assert not [page for page in pages if LOADED.search(page.read_text("utf-8"))]
    assert (site / "search" / "search_index.js").is_file()  # read where no server answers


def test_the_reference_has_what_it_names(site: Path) -> None:
    names = {f"trimask.{name}" for name in trimask.__all__} - {"trimask.__version__"}
    asked: set[str] = set()
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        shown = (site / "reference" / f"{page.stem}.html").read_text("utf-8")
        here = set(ORIGINAL.findall(page.read_text("utf-8")))
        assert not [name for name in here if f'id="{name}"' not in shown]
        asked |= here
    assert names <= asked
