"""What of a source is linked: links that a user made on disk are followed, names in files never lead out."""

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import final


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """The files of a source, hidden ones left out.

    Attributes:
        names: relative to `root`, sorted. A folder that is reached in two ways is listed once: as itself
            rather than by a link, and by the first of several links.
        set_aside: links that are not followed -> why.
        num_out: links that were followed and lead out of `root`.
        folders: where followed links to folders lead.
    """

    root: Path
    names: tuple[str, ...]
    set_aside: dict[str, str]
    num_out: int
    folders: tuple[Path, ...] = ()


def list_source(path: Path, *, follow_links: bool) -> Listing:
    """The files of a folder and below, or the one file. The source itself may be a link."""
    if path.is_file():
        return Listing(root=path.parent, names=(path.name,), set_aside={}, num_out=0)
    return _Walk(path, follow_links).listing()


def is_within(root: Path, path: Path, *, follow_links: bool) -> bool:
    """Whether `path` lies in `root` by its name; without `follow_links` also by all that it leads through."""
    inside = os.path.relpath(path, root)  # ".." is taken back, links are not looked at
    if inside == os.pardir or inside.startswith(os.pardir + os.sep):
        return False
    if ".." in path.parts and path.resolve() != Path(os.path.normpath(path)).resolve():
        return False  # ".." after a link: the name means another place than it says
    return follow_links or not is_linked(root, Path(inside))


def is_linked(root: Path, inside: Path) -> bool:
    """Whether `inside` or a folder that it is in is a link, from `root` on."""
    return any((root / place).is_symlink() for place in (inside, *inside.parents[:-1]))


class _Walk:
    """Folders first as they are, then those that links lead to, each real folder once."""

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
        """List a folder; links to others wait until all that is no link has been seen."""
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
