"""Fetch a benchmark set into a folder, atomically and reproducibly."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from trimask import io
from trimask.config import to_dict
from trimask.datasets.benchmark import Benchmark, Collected
from trimask.datasets.store import PackageStore, Report
from trimask.errors import UserError

METADATA = "metadata.jsonl"
LICENCES = "LICENCES.md"
MANIFEST = "manifest.json"
FORMAT_VERSION = 1


def fetch(
    benchmark: Benchmark,
    out: Path,
    *,
    packages: Path | None = None,
    any_version: bool = False,
    report: Report = lambda message: None,
) -> tuple[dict[str, Any], bool]:
    """Fetch a set into `out`, unless it is there already.

    The files are collected in a hidden folder next to `out`; after an interruption, the next call continues
    there.

    Args:
        packages: folder in which package files are searched for and kept; None deletes them afterwards.
        any_version: accept Debian packages of another version than the pinned one.
        report: called with progress messages.

    Returns:
        The manifest of the set, and whether it was fetched by this call.

    Raises:
        UserError: `out` holds something else, or a package is not the pinned one.
        OSError: a program is missing, or a package cannot be downloaded.
    """
    out = out.absolute()
    if (found := _manifest_of(benchmark, out)) is not None:
        return found, False
    work = out.parent / f".{out.name}.fetching"
    _begin(benchmark, work)
    folder = work / "set"
    folder.mkdir(exist_ok=True)
    store = PackageStore(
        folder=packages or work / "packages",
        unpacked=work / "unpacked",
        any_version=any_version,
        report=report,
    )
    collected = benchmark.collect(store, folder)
    manifest = _manifest(benchmark, store, collected)
    _write(folder, collected, manifest)
    if out.exists():
        out.rmdir()  # empty, as `_manifest_of` has checked
    os.replace(folder, out)
    shutil.rmtree(work)
    return manifest, True


def _manifest_of(benchmark: Benchmark, out: Path) -> dict[str, Any] | None:
    """Return the manifest in `out`; None for a missing or empty folder.

    Raises:
        UserError: `out` holds something else, or the set with other options.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST).is_file():
        raise UserError(f"{out} exists and holds no benchmark set: choose another --out")
    manifest = io.read_json(out / MANIFEST)
    found = (manifest.get("set"), manifest.get("options")) if isinstance(manifest, dict) else (None, None)
    if found != (benchmark.name, _options(benchmark)):
        raise UserError(
            f"{out} holds {_describe(*found)}, not {_describe(benchmark.name, _options(benchmark))}: "
            "choose another --out"
        )
    return manifest


def _begin(benchmark: Benchmark, work: Path) -> None:
    """Create the working folder, or keep that of an interrupted call for the same set and options."""
    request = {"set": benchmark.name, "options": _options(benchmark)}
    if work.exists() and (
        not (work / "request.json").is_file() or io.read_json(work / "request.json") != request
    ):
        shutil.rmtree(work)
    if not work.exists():
        work.mkdir(parents=True)
        io.write_json(work / "request.json", request)


def _manifest(benchmark: Benchmark, store: PackageStore, collected: Collected) -> dict[str, Any]:
    counts = Counter(row["split"] for row in collected.rows)
    return {
        "format_version": FORMAT_VERSION,
        "set": benchmark.name,
        "options": _options(benchmark),
        "packages": [to_dict(package) for package in store.obtained],
        "counts": dict(sorted(counts.items())),
        "dropped_counts": {reason: len(names) for reason, names in sorted(collected.dropped.items())},
        "dropped": {reason: sorted(names) for reason, names in sorted(collected.dropped.items())},
    }


def _write(folder: Path, collected: Collected, manifest: dict[str, Any]) -> None:
    """Write metadata, licences and manifest; delete files that no row names, left by an interrupted call."""
    named = {row[column] for row in collected.rows for column in ("file_name", "audio") if row.get(column)}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in named:
            path.unlink()
    with io.atomic_write(folder / METADATA) as temporary, temporary.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in collected.rows)
    with io.atomic_write(folder / LICENCES) as temporary:
        temporary.write_text(_licences(collected, manifest), encoding="utf-8")
    io.write_json(folder / MANIFEST, manifest)


def _licences(collected: Collected, manifest: dict[str, Any]) -> str:
    lines = [f"# {manifest['set']}: authors and licences\n"]
    lines += [
        f"- **{source.work}**\n  - Licence: {source.licence}\n  - {source.attribution}"
        for source in collected.sources
    ]
    lines.append("\nFetched from these packages:\n")
    lines += [
        f"- {package['name']} {package['version']}, SHA-256 {package['sha256']}"
        for package in manifest["packages"]
    ]
    return "\n".join(lines) + "\n"


def _options(benchmark: Benchmark) -> dict[str, Any]:
    return to_dict(benchmark)


def _describe(name: Any, options: Any) -> str:
    return f"{name} {json.dumps(options)}" if options else str(name)
