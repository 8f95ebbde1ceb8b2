"""The inputs of `trimask sample`, checked as far as possible before a model is loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trimask.cli.arguments import choose
from trimask.cli.failure import Failed, UsageError
from trimask.reading import find_problem
from trimask.vocabulary.task import MODALITIES, Task

if TYPE_CHECKING:
    from trimask.cli.sample import Sample

_MOST_BYTES = 10_000_000  # of a file of prompts


def check_inputs(request: "Sample", task: Task) -> None:
    """Check the arguments as far as possible without loading the model."""
    if request.out is None and (task.targets != {"text"} or request.filmstrip):
        raise UsageError(f"task {task.name} writes files: give a folder for them with --out DIR")
    if request.out is not None and request.out.exists() and not request.out.is_dir():
        raise UsageError(f"--out {request.out} is a file: name a folder")
    if request.filmstrip and task.name != "text_to_image":
        raise UsageError(f"--filmstrip is for task text_to_image, not {task.name}: leave it out")
    given = {"image": request.image, "speech": request.speech, **find_code_files(request.codes)}
    if request.filmstrip and request.image is not None:
        raise UsageError("--filmstrip shows a picture that is generated whole: leave out --image and --mask")
    used = {*task.condition, *task.targets}
    unused = [" ".join(option_of(n, str(p))) for n, p in given.items() if p and n not in used]
    for name in task.condition:
        if name != "text" and given.get(name) is None:
            more = f", and does not use {unused[0]}" if unused else ""
            raise UsageError(f"task {task.name} needs {' '.join(option_of(name, 'FILE'))}{more}")
    for name, path in given.items():
        if path is None:
            continue
        option = " ".join(option_of(name, str(path)))
        if name not in used:
            raise UsageError(f"task {task.name} does not use {option}: leave it out")
        if (problem := find_problem(path)) is not None:
            raise UsageError(f"{option} {problem}")
    _check_parts(request, task)
    if request.prompt is not None and not request.prompt.strip():
        raise UsageError(f"the prompt {request.prompt!r} is empty: give some text")
    guides = {"negative-prompt": request.negative_prompt, "guide": read_guides(request.guide)}
    for option, value in guides.items():
        if value and "text" not in task.condition:
            raise UsageError(
                f"--{option} is for a task with a prompt as its condition, and {task.name} has none: "
                "leave it out"
            )
    if request.pair is not None:
        choose("pair", request.pair, ["image", "speech"])


def _check_parts(request: "Sample", task: Task) -> None:
    """Check what says which part of a picture or recording to generate."""
    for name, part, value, wanted in (
        ("image", "mask", request.mask, "FILE, white where it is to be painted"),
        ("speech", "seconds", request.seconds, "A B, where it is to be spoken anew"),
    ):
        given = getattr(request, name)
        is_target = name in task.targets and name not in task.condition
        if value is not None and (given is None or not is_target):
            raise UsageError(
                f"--{part} says which part of --{name} FILE a task generates, and task {task.name} "
                f"{'has none' if is_target else f'generates no {name}'}: leave it out, or give --{name}"
            )
        if given is not None and is_target and value is None and len(task.targets) == 1:
            raise UsageError(
                f"--{name} {given} is what task {task.name} generates: leave it out, or give --{part} "
                f"{wanted}"
            )
    if request.mask is not None and (problem := find_problem(request.mask)) is not None:
        raise UsageError(f"--mask {request.mask} {problem}")


def check_overrides(names: Sequence[str], overrides: Mapping[str, str], tasks: Sequence[Task]) -> None:
    """Raise UsageError for a setting of the sampler of another task than `names`."""
    for path in overrides:
        _, other, *rest = path.split(".")
        if other not in names and other in [task.name for task in tasks]:
            own = " or ".join(".".join(["--sampler", name, *rest]) for name in dict.fromkeys(names))
            raise UsageError(
                f"task {', '.join(names)} does not use --{path}, a setting of task {other}: leave it out, or "
                f"give {own}"
            )


def read_prompts(request: "Sample", task: Task) -> list[str] | None:
    """Read the prompts of --prompts, one per line, without empty lines. None without that option."""
    if request.prompts is None:
        return None
    if request.prompt is not None:
        raise UsageError("--prompt and --prompts exclude each other: give one of them")
    if "text" not in task.condition and not task.is_alone:
        raise UsageError(f"task {task.name} does not use --prompts: leave it out")
    if (problem := find_problem(request.prompts)) is not None:
        raise UsageError(f"--prompts {request.prompts} {problem}")
    size = request.prompts.stat().st_size
    if size > _MOST_BYTES:
        raise UsageError(
            f"--prompts {request.prompts} has {size:,} bytes, more than {_MOST_BYTES:,}: split it"
        )
    try:
        text = request.prompts.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Failed(f"{request.prompts} is not UTF-8 ({error}): convert it") from error
    found = [line.strip() for line in text.split("\n") if line.strip()]
    if not found:
        raise UsageError(f"--prompts {request.prompts} contains no prompt: write one per line")
    return found


def read_guides(words: Sequence[str]) -> list[tuple[str, float]]:
    """Return the text and the scale of each `TEXT:W`. UsageError for another form."""
    found = []
    for each in words:
        text, _, scale = each.rpartition(":")
        try:
            found.append((text.strip(), float(scale)))
        except ValueError:
            text = ""
        if not text.strip():
            raise UsageError(f"--guide {each} is not TEXT:W: give a prompt and its scale, such as hat:2")
    return found


def option_of(modality: str, file: str) -> list[str]:
    """Return the words of the command line that give `file` as the condition of `modality` (not text)."""
    return [f"--{modality}", file] if modality in MODALITIES else ["--codes", f"{modality}={file}"]


def find_code_files(codes: Sequence[str]) -> dict[str, Path]:
    """Return the files of `NAME=FILE` words, by modality. UsageError for another form."""
    found = {}
    for each in codes:
        name, equals, path = each.partition("=")
        if not (name and equals and path):
            raise UsageError(f"--codes {each} is not NAME=FILE: give a modality and the file of its codes")
        found[name] = Path(path)
    return found
