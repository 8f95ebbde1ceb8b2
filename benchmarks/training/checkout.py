"""Where the others' code is found, and which version of it (and of ours) was run."""

import subprocess
from pathlib import Path
from types import MappingProxyType

REPOSITORIES = MappingProxyType(
    {"mdlm": "https://github.com/kuleshov-group/mdlm", "dllm": "https://github.com/ZHZisZZ/dllm"}
)
COMMITS = MappingProxyType(
    {
        "mdlm": "c112c526d193436838c98d81455ee51f90309470",
        "dllm": "ca176752fbceec49c6b4777a2c18ae88e4eb10ed",
    }
)
"""Those that the scripts were written for."""

AS_RUN = MappingProxyType(
    {
        "mdlm": "DiT with torch's SDPA in place of flash_attn; no EMA, dropout, Lightning trainer or metrics",
        "dllm": "training_step, clipping and optimizer without the Trainer's loop, loader and callbacks",
    }
)
_NEEDED = MappingProxyType({"mdlm": "models/dit.py", "dllm": "dllm/core/trainers/mdlm.py"})


def missing_part(name: str, source: Path | None) -> str | None:
    """Why `name` cannot be measured from `source`, and what to do; None if it can."""
    get = f"git clone {REPOSITORIES[name]} DIR && git -C DIR checkout {COMMITS[name][:7]}"
    if source is None:
        return f"--{name} is not given ({get}, then --{name} DIR)"
    if not (source / _NEEDED[name]).is_file():
        return f"{source} has no {_NEEDED[name]} ({get}, then --{name} DIR)"
    return None


def commit_of(folder: Path) -> str:
    """The commit of the checkout `folder`, with + for changes in tracked files; "unknown" if it is none."""
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return "unknown"
    return head + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def own_commit() -> str:
    return commit_of(Path(__file__).resolve().parent)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
