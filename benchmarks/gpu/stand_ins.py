"""Empty modules in place of libraries that the recipes' imports name, and that no section uses; imported
before all else.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any, final
from unittest.mock import MagicMock

_UNUSED = ("soundfile", "soxr", "tokenizers", "pyarrow", "PIL", "scipy", "rich")


@final
class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules in place of missing libraries that nothing here uses."""

    def __init__(self) -> None:
        self.used: list[str] = []

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname.partition(".")[0] not in _UNUSED or not _is_asked_by_us():
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        self.used.append(spec.name)
        module = types.ModuleType(spec.name)
        module.__getattr__ = _empty  # pyright: ignore[reportAttributeAccessIssue]  (PEP 562)
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _is_asked_by_us() -> bool:
    """Others do without what is missing, as torch does."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and (
        frame.f_code.co_filename == __file__ or "importlib" in frame.f_code.co_filename
    ):
        frame = frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__")).startswith("trimask")


def _empty(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return MagicMock(name=name)


STAND_INS = StandIns()
sys.meta_path.append(STAND_INS)
