"""Data that is linked and not copied: what the user linked is followed, what files name never leads out."""

import hashlib
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trimask.media.rejection import Reason, Rejection
from trimask.prepare.decode import read_part
from trimask.sources.item import Item
from trimask.sources.links import is_within, list_source
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import make_plan

COLOURS = ("red", "blue", "green", "orange")
FOLLOWED = PrepareOptions()
REFUSED = PrepareOptions(follow_links=False)


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(path, format="PNG")
    return path


def read(source: Path, options: PrepareOptions = FOLLOWED) -> tuple[dict[str, Item], list[Rejection]]:
    plan = make_plan(str(source), options)
    found = [item for part in plan.parts for item in read_part(part, options)]
    items = {item.key: item for item in found if isinstance(item, Item)}
    return items, [item for item in found if isinstance(item, Rejection)]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for number, colour in enumerate(COLOURS):
        picture(tmp_path / "store" / f"{number}.png", number)
        (tmp_path / "store" / f"{number}.txt").write_text(f"a {colour} box")
    return tmp_path / "store"


def num_links_out(source: Path) -> int:
    listing = make_plan(str(source), PrepareOptions()).listing
    assert listing is not None
    return listing.num_out


def test_a_hub_cache(tmp_path: Path, store: Path):
    """A snapshot's files are links to blobs; its table names them as if they stood there."""
    snapshot, blobs = tmp_path / "cache" / "snapshots" / "abc", tmp_path / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()

    def add(name: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        (snapshot / name).symlink_to(Path("../../blobs") / digest)

    for number in range(4):
        add(f"{number}.png", (store / f"{number}.png").read_bytes())
    rows = "".join(f"{number}.png,a {colour} box\n" for number, colour in enumerate(COLOURS))
    add("metadata.csv", f"file_name,text\n{rows}".encode())
    items, rejections = read(snapshot)
    assert [item.text for item in items.values()] == [f"a {colour} box" for colour in COLOURS]
    assert not rejections and num_links_out(snapshot) == 5
    items, rejections = read(snapshot, REFUSED)
    assert not items and {rejection.key for rejection in rejections} == {
        "metadata.csv",
        *(f"{n}.png" for n in range(4)),
    }
    assert all("links are not followed" in rejection.detail for rejection in rejections)


def test_linked_files(tmp_path: Path, store: Path):
    loose = tmp_path / "loose"
    loose.mkdir()
    for number in range(4):
        for suffix in ("png", "txt"):
            (loose / f"{number}.{suffix}").symlink_to(store / f"{number}.{suffix}")
    items, rejections = read(loose)
    assert len(items) == 4 and not rejections and num_links_out(loose) == 8
    items, rejections = read(loose, REFUSED)
    assert not items and len(rejections) == 8


def test_a_captions_link_is_refused_too(tmp_path: Path, store: Path):
    picture(tmp_path / "own" / "0.png")
    (tmp_path / "own" / "0.txt").symlink_to(store / "0.txt")
    assert len(read(tmp_path / "own")[0]) == 1
    items, rejections = read(tmp_path / "own", REFUSED)
    assert not items and {Reason.NO_TEXT, Reason.UNUSED_FILE} == {found.reason for found in rejections}


def test_a_linked_folder(tmp_path: Path, store: Path):
    parent = tmp_path / "parent"
    picture(parent / "own.png", 9)
    (parent / "own.txt").write_text("a black box")
    (parent / "more").symlink_to(store)
    items, rejections = read(parent)
    assert set(items) == {"own.png", *(f"more/{number}.png" for number in range(4))} and not rejections
    assert num_links_out(parent) == 1
    items, rejections = read(parent, REFUSED)
    assert set(items) == {"own.png"} and [found.key for found in rejections] == ["more"]


def test_a_source_may_itself_be_a_link(tmp_path: Path, store: Path):
    (tmp_path / "link").symlink_to(store)
    for options in (PrepareOptions(), REFUSED):
        assert len(read(tmp_path / "link", options)[0]) == 4
    assert num_links_out(tmp_path / "link") == 0


def test_cycles_end_and_a_folder_is_read_once(tmp_path: Path, store: Path):
    (store / "up").symlink_to(tmp_path)  # which holds the source
    (store / "self").symlink_to(store)
    (store / "inner").mkdir()
    picture(store / "inner" / "5.png", 5)
    (store / "inner" / "5.txt").write_text("a fifth")
    (store / "again").symlink_to(store / "inner")
    other = tmp_path / "other"
    picture(other / "sub" / "6.png", 6)
    (other / "sub" / "6.txt").write_text("a sixth")
    (other / "back").symlink_to(store)
    (store / "x").symlink_to(other / "sub")
    (store / "y").symlink_to(other)
    listing = list_source(store, follow_links=True)
    pictures = [name for name in listing.names if name.endswith(".png")]
    assert pictures == ["0.png", "1.png", "2.png", "3.png", "inner/5.png", "x/6.png"]
    assert set(listing.set_aside) == {"up", "self", "again", "y/sub", "y/back"} and listing.num_out == 2


def test_links_that_lead_nowhere(tmp_path: Path, store: Path):
    (store / "gone.png").symlink_to(tmp_path / "gone.png")
    (store / "loop.png").symlink_to(store / "loop.png")
    os.mkfifo(store / "pipe.png")
    (store / "null.png").symlink_to("/dev/null")
    items, rejections = read(store)
    assert len(items) == 4
    assert {r.key for r in rejections} == {"gone.png", "loop.png", "pipe.png", "null.png"}


@pytest.mark.parametrize(
    "name", ["../secret.png", "/{root}/secret.png", "sub/../../secret.png", "sub/link/../../secret.png"]
)
def test_a_name_in_a_table_never_leads_out(name: str, tmp_path: Path, store: Path):
    picture(tmp_path / "secret.png")
    picture(tmp_path / "else" / "where" / "0.png")
    (store / "sub").mkdir()
    (store / "sub" / "link").symlink_to(tmp_path / "else" / "where")  # "link/../.." is tmp_path
    name = name.replace("/{root}", str(tmp_path))
    assert (store / name).is_file()
    (store / "metadata.csv").write_text(f"file_name,text\n{name},secret\nsub/link/0.png,linked\n")
    items, rejections = read(store)
    assert [i.text for i in items.values() if isinstance(i.text, str)] == ["linked"]
    assert [r.key for r in rejections if r.reason is Reason.MISSING_FILE] == ["metadata.csv@15"]


def test_within_is_told_by_names(tmp_path: Path, store: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(store)
    root = tmp_path / "in"
    assert is_within(root, root / "link" / "0.png", follow_links=True)
    assert not is_within(root, root / "link" / "0.png", follow_links=False)
    assert is_within(root, root / "..b" / "..c", follow_links=False)
    assert not is_within(root, root / "..", follow_links=True)
    assert not is_within(root, Path("/"), follow_links=True)
    assert is_within(root, tmp_path / "in" / "x" / ".." / "y", follow_links=False)
