"""Import the user's Python code, named `mine.py:Name` or `package.module:Name`, and the copies in runs.

A file is identified by its name and content, `mine-0123456789abcdef.py`, with the first 16 hex digits of its
SHA-256. Stored configurations name its classes by that name, a run keeps a copy of it in its folder
`modules`, and `sys.modules` has it under that name. So two files of the same name, or two versions of one
file, are never confused. Packages are not copied: they are imported from where they are installed.
"""

import contextlib
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import ExecutionLoader
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeVar, final

from trimask.errors import UserError
from trimask.reading import find_problem
from trimask.trust import check_import

logger = logging.getLogger(__name__)

T = TypeVar("T")

_packages: set[str] = set()
"""Top-level packages of the user's that this process has imported."""

MODULES = "modules"
"""The folder of copies, beside a run's `config.json` or an exported file."""
_COPY = re.compile(r"\w+-[0-9a-f]{16}\.py")
_PACKAGE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_FORMS = "give path.py:Name or package.module:Name"
_NOTHING = object()
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_MOST_NAMES = 8  # in a message
_MAIN = ("__main__", "__mp_main__")  # the second is the script's name in the processes that it starts


@final
@dataclass(frozen=True, kw_only=True)
class SourceFile(ExecutionLoader):
    """A Python file and its content at the time of reading; also the loader of its module."""

    path: Path
    source: bytes

    @classmethod
    def read(cls, path: Path) -> "SourceFile":
        """Read the file at `path`. Raise UserError if it cannot be read, or is not a Python file."""
        if path.suffix != ".py":
            raise UserError(f"{path} is not a Python file: name one that ends in .py")
        problem = find_problem(path)  # reading a pipe could block forever
        if problem is not None:
            raise UserError(f"{path} {problem}")
        try:
            return cls(path=path.absolute(), source=path.read_bytes())
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): name a Python file") from error

    @property
    def copy(self) -> str:
        """The name of the file's copy: its own name with its hash."""
        digest = hashlib.sha256(self.source).hexdigest()[:16]
        stem = re.sub(r"\W", "_", self.path.stem.removesuffix(f"-{digest}"))
        return f"{stem}-{digest}.py"

    def load(self) -> ModuleType:
        """Import the module, or return it if it is imported already.

        Raises:
            UserError: its code fails.
        """
        name = self.copy.removesuffix(".py")
        if name not in sys.modules:
            spec = importlib.util.spec_from_loader(name, self, origin=str(self.path))
            assert spec is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            try:
                with run_user_code(self.path.name, self.path):
                    self.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]

    def get_filename(self, fullname: str) -> str:
        return str(self.path)

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.source)

    def is_package(self, fullname: str) -> bool:
        return False


# Names


def is_own(name: str) -> bool:
    """Whether `name` refers to the user's code rather than to a recipe or class of trimask."""
    return ":" in name or name.endswith(".py")


def label(name: str) -> str:
    """Return `name` without the folders of its file."""
    where, colon, what = name.rpartition(":")
    return Path(where).name + colon + what if where.endswith(".py") else name


def load(name: str) -> Any:
    """Import the object that `name`, `path.py:Name` or `package.module:Name`, refers to.

    Raises:
        UserError: no such file, package or name, or its code fails.
    """
    where, _, what = name.rpartition(":") if ":" in name else (name, "", "")
    if _COPY.fullmatch(where) and not Path(where).exists() and where in _known_files():
        return load_tagged(name)
    if where.endswith(".py") or (where and Path(where).is_file()):
        return _get_member(SourceFile.read(Path(where)).load(), where, what)
    if not _PACKAGE.fullmatch(where):
        raise UserError(f"{where or name!r} is neither a Python file nor a package: {_FORMS}")
    return _get_member(_import_package(where), where, what)


def call(name: str, kinds: tuple[type[T], ...], what: str) -> T:
    """Call the user's function `name` without arguments and return its result.

    Args:
        kinds: classes that the result may have.
        what: the same in words, for messages.

    Raises:
        UserError: it is not a function without required arguments, it fails, or it returns something else.
    """
    function = load(name)
    if not isinstance(function, FunctionType):
        kind = type(function).__name__
        raise UserError(f"{name} is not a function but {kind}: name a function without arguments")
    parameters = inspect.signature(function).parameters.values()
    if any(each.default is each.empty and each.kind not in _REST for each in parameters):
        raise UserError(f"{name} takes arguments: name a function without arguments")
    with run_user_code(name, Path(function.__code__.co_filename)):
        made = function()
    if not isinstance(made, kinds):
        raise UserError(f"{name} returned {type(made).__name__}: return {what}")
    return made


def load_tagged(name: str) -> Any:
    """Look up the object that a stored configuration calls `name`; its file must be loaded already.

    Raises:
        UserError: the file is not loaded, there is no such package or name, or its code fails.
    """
    where, _, what = name.rpartition(":")
    if _PACKAGE.fullmatch(where):
        return _get_member(_import_package(where), where, what)
    loaded = {file.copy: file for file in loaded_files()}
    if where not in loaded:
        raise UserError(f"{where!r} is neither a package nor a loaded file: {_FORMS}")
    return _get_member(loaded[where].load(), where, what)


def _get_member(module: ModuleType, where: str, what: str) -> Any:
    found = _find_member(module, what)
    if found is not _NOTHING:
        return found
    known = [name for name in vars(module) if not name.startswith("_")]
    own = [name for name in known if getattr(vars(module)[name], "__module__", None) == module.__name__]
    close = difflib.get_close_matches(what, known, n=2) if what else []
    fix = f"did you mean {' or '.join(close)}?" if close else f"it defines {_list_names(own, what)}"
    if not what:
        raise UserError(f"{where} is a module without a name in it: {_FORMS}; {fix}")
    raise UserError(f"{where} has no {what}: {fix}")


def _find_member(module: Any, qualname: str) -> Any:
    return functools.reduce(lambda value, part: getattr(value, part, _NOTHING), qualname.split("."), module)


def _list_names(names: Sequence[str], close_to: str) -> str:
    if len(names) <= _MOST_NAMES:
        return ", ".join(names) or "nothing"
    closest = difflib.get_close_matches(close_to, names, n=_MOST_NAMES, cutoff=0.0)
    return f"{', '.join(closest)} and {len(names) - len(closest)} more"


def _import_package(name: str) -> ModuleType:
    check_import(name)
    with run_user_code(name, None):
        module = importlib.import_module(name)
    top = name.partition(".")[0]
    if top not in sys.stdlib_module_names and top != "trimask":  # a class of ours may be named so too
        _packages.add(top)
    return module


def tag(cls: type | FunctionType) -> str | None:
    """Return the name of `cls` in a stored configuration; with its module, if it is not of trimask.

    None for what cannot be imported again: a class or function defined in a function or an interactive
    session, or whose name in its module refers to something else.
    """
    name = cls.__module__
    if name.partition(".")[0] == "trimask":
        return cls.__name__
    file = _file_of(name)
    is_lost = name in _MAIN and file is None
    found = _find_member(sys.modules.get(name), cls.__qualname__)
    # A module that was loaded again has another class of the same name.
    is_found = isinstance(found, type | FunctionType) and found.__qualname__ == cls.__qualname__
    if is_lost or not is_found or found.__module__ != name:
        return None
    return f"{name if file is None else file.copy}:{cls.__qualname__}"


def is_users(scope: Mapping[str, Any]) -> bool:
    """Whether the module with the globals `scope` is of the user's code."""
    top = str(scope.get("__name__")).partition(".")[0]
    return isinstance(scope.get("__loader__"), SourceFile) or top in _packages


def spell(tag: str) -> str:
    """Return the name by which a user can refer to the class of `tag`: with the path of its file, if the file
    still has the same content."""
    where, _, what = tag.rpartition(":")
    file = _known_files().get(where)
    if file is None or find_problem(file.path) is not None or SourceFile.read(file.path).copy != where:
        return tag
    return f"{shorten(file.path)}:{what}"


def spell_module(name: str) -> str:
    """Return the path of the user's file that was imported as module `name`; `name` if it is of a package."""
    file = _file_of(name)
    return name if file is None else str(shorten(file.path))


def shorten(path: Path) -> Path:
    """Return `path` relative to the working directory, if it lies below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _file_of(module: str) -> SourceFile | None:
    loaded = sys.modules.get(module)
    facts = vars(loaded) if isinstance(loaded, ModuleType) else {}  # `sys.modules` may have other objects
    loader, script = facts.get("__loader__"), facts.get("__file__") or ""
    if isinstance(loader, SourceFile):
        return loader
    return _script(script) if module in _MAIN and script.endswith(".py") else None


@functools.cache
def _script(path: str) -> SourceFile:
    return SourceFile.read(Path(path))


# Copies


def files_of(stored: Any) -> list[SourceFile]:
    """Return the files whose classes a stored configuration names; all must be loaded."""
    known = _known_files()
    return [known[name] for name in sorted(_named_modules(stored)) if _COPY.fullmatch(name)]


def load_all(stored: Any, folder: Path) -> None:
    """Import every module whose classes a stored configuration names: files from their copies in
    `folder`/modules, packages from where they are installed.

    Raises:
        UserError: one is missing, or a copy has changed; the message names it and says how to fix it.
    """
    known = _known_files()
    for name in sorted(_named_modules(stored)):
        if _PACKAGE.fullmatch(name):
            _load_package(name, folder)
        elif _COPY.fullmatch(name) and name not in known:
            _load_copy(folder / MODULES / name)


def find_changed_copy(name: str, stored: Any) -> str | None:
    """Return the name of the stored copy of the file in `name` if the file has changed since, else None."""
    path = Path(name.rpartition(":")[0])
    if path.suffix != ".py" or not path.is_file():
        return None
    changed = _list_changed(_named_modules(stored), {SourceFile.read(path).copy})
    return changed[0] if changed else None


def list_changed_copies(before: Any, now: Any) -> list[str]:
    """Return the copies that the stored configuration `before` names, and `now` names in another version."""
    return _list_changed(_named_modules(before), _named_modules(now))


def _list_changed(before: set[str], now: set[str]) -> list[str]:
    new = {copy[:-20] for copy in now - before if _COPY.fullmatch(copy)}
    return sorted(copy for copy in before - now if _COPY.fullmatch(copy) and copy[:-20] in new)


def loaded_files() -> list[SourceFile]:
    """Return the user's files that this process has imported: another process needs them to unpickle."""
    files = [(name, _file_of(name)) for name in list(sys.modules)]
    return [file for name, file in files if file is not None and name not in _MAIN]


def _known_files() -> dict[str, SourceFile]:
    """Return the loaded files and the running script, by the names of their copies."""
    return {file.copy: file for file in map(_file_of, list(sys.modules)) if file is not None}


def _load_copy(path: Path) -> None:
    check_import(path.name)
    if not path.is_file():
        raise UserError(
            f"{path} is missing, user code that {path.parents[1]} was made with: restore that file"
        )
    file = SourceFile.read(path)
    if file.copy != path.name:
        raise UserError(
            f"{path} has changed since {path.parents[1]} was made with it (its SHA-256 now begins with "
            f"{file.copy[-19:-3]}): restore the original file"
        )
    logger.warning("%s contains user code, which is now run: %s", path.parents[1], path)
    file.load()


def _load_package(name: str, folder: Path) -> None:
    try:
        _import_package(name)
    except UserError as error:
        raise UserError(f"{folder} was made with user code in {name}: {error}") from error


def _named_modules(stored: Any) -> set[str]:
    if isinstance(stored, Mapping):
        kind = stored.get("type")
        own = {kind.rpartition(":")[0]} if isinstance(kind, str) and ":" in kind else set()
        return own.union(*map(_named_modules, stored.values()))
    return set().union(*map(_named_modules, stored)) if isinstance(stored, list | tuple) else set()


# Failures


@contextlib.contextmanager
def run_user_code(name: str, file: Path | None) -> Iterator[None]:
    """Run the user's code within this block: its exceptions become a UserError with their place, and what it
    prints goes to stderr, since stdout is for results.

    Args:
        name: the code, for messages.
        file: its file, to find the line in the traceback; None for a package.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name:
            if f"{name}.".startswith(f"{error.name}."):
                raise UserError(f"there is no module {error.name}: install it, or {_FORMS}") from error
            fix = "install it as a package, or keep all code in one file"
            raise UserError(f"{name} imports {error.name}, which is not installed: {fix}") from error
        if isinstance(error, UserError):  # its message says what to do
            raise UserError(f"{name}: {error}{_error_place(error, file)}") from error
        raise UserError(
            f"{name} failed (code outside of trimask): {describe_error(error)}{_error_place(error, file)}"
        ) from error


def describe_error(error: BaseException) -> str:
    """Return the class and message of an error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")


def _error_place(error: BaseException, file: Path | None) -> str:
    """Format the innermost line of the user's code in the traceback of `error`."""
    if isinstance(error, SyntaxError):  # its message has the place
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if file is None or frame.filename == str(file.absolute())]
    if not theirs:
        return ""
    frame = theirs[-1]
    return f" ({Path(frame.filename).name}, line {frame.lineno}, in {frame.name}: {frame.line})"
