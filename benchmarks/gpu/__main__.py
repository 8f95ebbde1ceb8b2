"""Run the sections one after the other, each in a process and within a time of its own; gather one JSON file.

Only the standard library is used here, so that whatever is missing or fails is told in the result.
"""

import argparse
import importlib
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# In the order of their worth, with the most seconds that each may take.
SECTIONS = {
    "ceilings": 45,
    "correctness": 120,
    "pilot": 150,
    "large": 170,
    "profile": 60,
    "attention": 60,
    "sampling": 200,
}
NEEDED = ("torch", "numpy", "jaxtyping", "safetensors")
OPTIONAL = ("torchao", "triton")
_LAST_LINES = 12
_TO_FINISH = 3  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description="What one GPU makes of trimask.")
    parser.add_argument("--out", type=Path, help="JSON file; benchmarks/results/gpu-<date>.json by default")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--device", default="cuda", help="cuda, or cpu (with --tiny)")
    parser.add_argument("--tiny", action="store_true", help="small sizes: whether it runs, not how fast")
    parser.add_argument("--budget", type=float, default=520, help="seconds for all sections together")
    parser.add_argument("--commit", help="of the source tree, where git does not tell")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ceiling", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.section:
        _section(options)
        return 0
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        packages = " ".join(missing)
        print(
            f"missing: {packages}. Where there is a network: pip install --target site {packages}; "
            "bring the folder along and run again with PYTHONPATH=site",
            file=sys.stderr,
        )
        return 1
    absent = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
    if absent:
        print(f"not here, and left out: {', '.join(absent)} (bring them in a folder on PYTHONPATH)")
    now = datetime.now(UTC)
    out = options.out or ROOT / "benchmarks" / "results" / f"gpu-{now:%Y-%m-%d}.json"
    result = _all_sections(options, out, now)
    done = [found["status"] == "done" for found in result["sections"].values()]
    print(f"{sum(done)} of {len(done)} sections done, in {result['seconds']} s: {out}")
    return 0 if all(done) and result["all_checks_passed"] is not False else 1


def _all_sections(options: argparse.Namespace, out: Path, now: datetime) -> dict[str, Any]:
    """Run them, and write what there is after each one."""
    began = time.monotonic()
    result: dict[str, Any] = {
        "benchmark": "gpu",
        "date": now.isoformat(timespec="seconds"),
        "commit": options.commit or _commit(),
        "is_tiny": options.tiny,
        "versions": {"python": platform.python_version(), **{n: _version(n) for n in (*NEEDED, *OPTIONAL)}},
        "machine": None,
        "all_checks_passed": None,
        "seconds": 0.0,
        "sections": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sections:
            left = options.budget - (time.monotonic() - began)
            if left < 5:
                found: dict[str, Any] = {"status": "not begun", "error": "the time for all sections is spent"}
            else:
                limit = min(SECTIONS[name], left)
                found = _run(name, options, Path(folder) / f"{name}.json", limit, _ceiling(result))
            machine = found.pop("machine", None)
            result["machine"] = result["machine"] or machine
            result["sections"][name] = found
            result["all_checks_passed"] = _checks_passed(result["sections"])
            result["seconds"] = round(time.monotonic() - began, 1)
            _write(out, result)
            print(
                f"{name}: {found['status']}, {found.get('seconds', 0)} s", found.get("error", ""), flush=True
            )
    return result


def _run(
    name: str, options: argparse.Namespace, part: Path, limit: float, ceiling: float | None
) -> dict[str, Any]:
    """A section in its own process; what it wrote counts even if it fails or runs out of time."""
    command = [sys.executable, str(Path(__file__).parent), "--section", name, "--part", str(part)]
    command += ["--device", options.device, "--budget", str(limit)]
    command += (["--tiny"] if options.tiny else []) + (["--ceiling", str(ceiling)] if ceiling else [])
    began = time.monotonic()
    # Of the host's network the loopback will do. With the other, products of matrices can keep an order.
    environment = {"GLOO_SOCKET_IFNAME": "lo", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", **os.environ}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment,
    )
    try:
        said, _ = process.communicate(timeout=limit)
        status = "done" if process.returncode == 0 else "failed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        status = "out of time"
    found: dict[str, Any] = {"status": status, "seconds": round(time.monotonic() - began, 1)}
    if status != "done":
        found["error"] = "\n".join(said.strip().splitlines()[-_LAST_LINES:])
    if part.exists():
        found |= json.loads(part.read_text())
    return found


def _section(options: argparse.Namespace) -> None:
    """In the section's process."""
    ends = time.monotonic() + options.budget - _TO_FINISH
    stand_ins = importlib.import_module("stand_ins")  # before the recipes
    import setting  # with torch

    chosen = setting.Setting(
        device=setting.device(options.device), is_tiny=options.tiny, ends=ends, ceiling=options.ceiling
    )
    part = setting.Part(options.part, chosen)
    importlib.import_module(f"section_{options.section}").run(chosen, part)
    part.note("stand_ins", stand_ins.STAND_INS.used)


def _ceiling(result: Mapping[str, Any]) -> float | None:
    """FLOP/s of the quickest bf16 product that was measured."""
    products = result["sections"].get("ceilings", {}).get("bfloat16_products", {})
    return max((p["flops_per_second"] for p in products.values() if "flops_per_second" in p), default=None)


def _checks_passed(sections: Mapping[str, Any]) -> bool | None:
    checks = sections.get("correctness", {}).get("checks", {})
    return all(check.get("passed") is not False for check in checks.values()) if checks else None


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _write(path: Path, result: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
