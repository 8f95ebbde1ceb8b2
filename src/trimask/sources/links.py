"""List a source. Links on disk, which the user made, are followed; file names in tables never lead out."""

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import final


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """The files of a source, without hidden ones.

    Attributes:
        names: sorted paths relative to `root`. A folder that can be reached by several paths is listed once:
            by the path without links, or else by the first link.
        set_aside: links that are not followed -> reason.
        num_out: number of followed links that lead out of `root`.
        folders: targets of the followed links to folders.
    """

    root: Path
    names: tuple[str, ...]
    set_aside: dict[str, str]
    num_out: int
    folders: tuple[Path, ...] = ()


def list_source(path: Path, *, follow_links: bool) -> Listing:
    """List the files in a folder and below, or the one file. The source itself may be a link."""
    if path.is_file():
        return Listing(root=path.parent, names=(path.name,), set_aside={}, num_out=0)
    return _Walk(path, follow_links).listing()


def is_within(root: Path, path: Path, *, follow_links: bool) -> bool:
    """Return whether `path` is in `root` by name and, without `follow_links`, contains no links."""
    inside = os.path.relpath(path, root)  # resolves "..", ignores links
    if inside == os.pardir or inside.startswith(os.pardir + os.sep):
        return False
    if ".." in path.parts and path.resolve() != Path(os.path.normpath(path)).resolve():
        return False  # ".." after a link: the real location differs from the name
    return follow_links or not is_linked(root, Path(inside))


def is_linked(root: Path, inside: Path) -> bool:
    """Return whether `inside`, relative to `root`, or one of its parent folders is a link."""
    return any((root / place).is_symlink() for place in (inside, *inside.parents[:-1]))


class _Walk:
    """Walks real folders first, then those that links lead to, each real folder once."""

    def __init__(self, root: Path, follow_links: bool) -> None:
        self._root = root
        self._real = root.resolve()
        self._follow_links = follow_links
        self._names: list[str] = []
        self._set_aside: dict[str, str] = {}
        self._seen: set[Path] = set()
        self._linked: deque[str] = deque()
        self._folders: list[Path] = []
        self._num_out = 0

    def listing(self) -> Listing:
        self._folder("")
        while self._linked:
            self._link(self._linked.popleft())
        return Listing(
            root=self._root,
            names=tuple(sorted(self._names)),
            set_aside=self._set_aside,
            num_out=self._num_out,
            folders=tuple(self._folders),
        )

    def _folder(self, inside: str) -> None:
        """List a folder and queue the links to folders in it."""
        base = self._root / inside
        linked: list[str] = []
        for folder, subfolders, files in os.walk(base):
            real = Path(folder).resolve()
            self._seen.add(real)
            below = (Path(inside) / Path(folder).relative_to(base)).as_posix()
            below = "" if below == "." else f"{below}/"
            shown = sorted(name for name in subfolders if not name.startswith("."))
            links = [name for name in shown if (real / name).is_symlink()]
            again = [name for name in shown if name not in links and real / name in self._seen]
            for name in again:
                self._set_aside[f"{below}{name}"] = f"{real / name}, which is read already"
            subfolders[:] = [name for name in shown if name not in again]
            for name in sorted(name for name in files if not name.startswith(".")):
                self._file(f"{below}{name}")
            linked += [f"{below}{name}" for name in links]
        self._linked.extend(sorted(linked))

    def _file(self, name: str) -> None:
        path = self._root / name
        if path.is_symlink():
            if not self._follow_links:
                self._set_aside[name] = "a link, and links are not followed (--no-follow-links)"
                return
            if not os.path.exists(path):
                self._set_aside[name] = "a link that leads nowhere"
                return
            self._num_out += not path.resolve().is_relative_to(self._real)
        self._names.append(name)

    def _link(self, name: str) -> None:
        real = (self._root / name).resolve()
        if not self._follow_links:
            self._set_aside[name] = "a link, and links are not followed (--no-follow-links)"
        elif real in self._seen:
            self._set_aside[name] = f"a link to {real}, which is read already"
        elif self._real.is_relative_to(real):
            self._set_aside[name] = f"a link to {real}, which holds the source itself"
        else:
            self._num_out += not real.is_relative_to(self._real)
            self._folders.append(real)
            self._folder(name)
