"""Make `.venv` with what trimask needs: `python3 bootstrap.py [extra ...]`, called by the Makefile.

Standard library only, no root, nothing outside the checkout. Three things differ between machines:

- pip. Debian and Ubuntu ship Python without `ensurepip`; then the system's pip installs into `.venv`, or
  pip's wheel is fetched from the package index that PIP_INDEX_URL (or a pip configuration file) names.
- torch. The build of the package index brings gigabytes of GPU libraries. Without an NVIDIA GPU the CPU build
  is taken: from where pip finds it, else through uv, which knows where it lies.
- what is there already. A second run installs only what changed.
"""

import configparser
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urldefrag, urljoin

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = ROOT / "constraints.txt"
QUIET = ["-qq", "--no-input", "--disable-pip-version-check"]
OLDEST = (3, 11)


def main(extras: list[str]) -> None:
    if sys.version_info < OLDEST:
        stop(f"Python {sys.version.split()[0]} is too old, 3.11 is needed: make PYTHON=/path/to/python3.11 …")
    if not usable():
        say(f"making {VENV.name} with Python {sys.version.split()[0]}")
        make_venv()
    install_torch()
    choice = f"[{','.join(extras)}]" if extras else ""
    say(f"installing trimask{choice}")
    pip("install", "--constraint", str(CONSTRAINTS), "--editable", f".{choice}")


def usable() -> bool:
    """Whether `.venv` has a Python that is new enough, and pip: an interrupted run leaves half of it."""
    if not PYTHON.exists():
        return False
    check = f"import pip, sys; sys.exit(sys.version_info < {OLDEST})"
    return subprocess.run([PYTHON, "-c", check], stderr=subprocess.DEVNULL, check=False).returncode == 0


def make_venv() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False
    )
    if made.returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    bare = subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(VENV)],
        capture_output=True,
        text=True,
        check=False,
    )
    if bare.returncode != 0:
        stop(f"could not make {VENV}: {(bare.stderr or bare.stdout).strip().splitlines()[-1]}")
    system_pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", *QUIET, "pip"]
    if subprocess.run(system_pip, capture_output=True, check=False).returncode != 0:
        fetch_pip()


def fetch_pip() -> None:
    """Install pip with pip's own wheel, which can be run where it lies."""
    index = package_index()
    if index is None:
        shutil.rmtree(VENV, ignore_errors=True)
        stop(
            "this Python comes without pip and without ensurepip. Any one of these mends it: "
            "install the package python3-venv; or install pip for your user; "
            "or name your package index: PIP_INDEX_URL=https://…/simple make …"
        )
    say("fetching pip from the package index")
    page = urljoin(index.rstrip("/") + "/", "pip/")
    try:
        request = urllib.request.Request(
            page, headers={"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.1"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            address, digest = newest_wheel(
                answer.read().decode(), answer.headers.get_content_type(), answer.url
            )
        with urllib.request.urlopen(address, timeout=180) as answer:
            content = answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        stop(f"could not fetch pip from the package index ({error}): check the network and PIP_INDEX_URL")
    if digest and hashlib.sha256(content).hexdigest() != digest:
        stop("pip's wheel came damaged: run again")
    wheel = VENV / address.rsplit("/", 1)[-1]
    wheel.write_bytes(content)
    subprocess.run([PYTHON, wheel / "pip", "install", *QUIET, wheel], check=True)
    wheel.unlink()


def newest_wheel(page: str, content_type: str, base: str) -> tuple[str, str | None]:
    """Address and SHA-256 of the newest pip wheel on an index page (JSON or HTML form of the simple API)."""
    if content_type.endswith("json"):
        files = [
            (urljoin(base, f["url"]), f.get("hashes", {}).get("sha256"))
            for f in json.loads(page)["files"]
            if not f.get("yanked")
        ]
    else:
        links = [urldefrag(urljoin(base, link)) for link in re.findall(r'href="([^"]+)"', page)]
        files = [
            (link.url, link.fragment.removeprefix("sha256=") if link.fragment.startswith("sha256=") else None)
            for link in links
        ]
    versions = {}
    for address, digest in files:
        if match := re.search(r"/pip-(\d+(?:\.\d+)*)-py3-none-any\.whl$", address):
            versions[tuple(map(int, match[1].split(".")))] = (address, digest)
    if not versions:
        raise ValueError("the index lists no wheel of pip")
    return versions[max(versions)]


def package_index() -> str | None:
    """The package index that the environment or a pip configuration file names."""
    if index := os.environ.get("PIP_INDEX_URL"):
        return index
    home = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))
    places = [
        os.environ.get("PIP_CONFIG_FILE", ""),
        home / "pip/pip.conf",
        Path.home() / ".pip/pip.conf",
        "/etc/pip.conf",
    ]
    for place in filter(None, places):
        config = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            config.read(place)
        except (configparser.Error, UnicodeDecodeError):
            continue
        if config.has_option("global", "index-url"):
            return config.get("global", "index-url")
    return None


def install_torch() -> None:
    pinned = next(line.strip() for line in CONSTRAINTS.read_text().splitlines() if line.startswith("torch=="))
    found = "__import__('importlib.metadata').metadata.version('torch')"
    check = f"raise SystemExit('torch==' + {found}.split('+')[0] != '{pinned}')"
    if subprocess.run([PYTHON, "-c", check], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        return
    if has_nvidia_gpu() or sys.platform != "linux":
        say(f"installing {pinned}")
        pip("install", "--constraint", str(CONSTRAINTS), pinned)
        return
    say(f"no NVIDIA GPU seen: installing the CPU build of {pinned}")
    if pip("install", "--constraint", str(CONSTRAINTS), f"{pinned}+cpu", may_fail=True):
        return
    if pip("install", "uv", may_fail=True):
        index = package_index()
        environment = {**os.environ, **({"UV_DEFAULT_INDEX": index} if index else {})}
        command = ["uv", "pip", "install", "--quiet", "--python", str(PYTHON), "--torch-backend=cpu"]
        command += ["--constraint", str(CONSTRAINTS), pinned]
        if (
            subprocess.run(
                [VENV / "bin" / command[0], *command[1:]], env=environment, capture_output=True, check=False
            ).returncode
            == 0
        ):
            return
    say("the CPU build is out of reach: installing the build with GPU libraries (gigabytes, takes a while)")
    pip("install", "--constraint", str(CONSTRAINTS), pinned)


def has_nvidia_gpu() -> bool:
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listing.returncode == 0 and "GPU" in listing.stdout


def pip(*arguments: str, may_fail: bool = False) -> bool:
    command = [str(PYTHON), "-m", "pip", arguments[0], *QUIET, *arguments[1:]]
    result = subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL if may_fail else None, check=False)
    if result.returncode != 0 and not may_fail:
        stop("pip failed (its words are above): check the network and the free disk space, then run again")
    return result.returncode == 0


def say(line: str) -> None:
    print(f"trimask: {line}", flush=True)


def stop(line: str) -> None:
    raise SystemExit(f"trimask: {line}")


if __name__ == "__main__":
    main(sys.argv[1:])
