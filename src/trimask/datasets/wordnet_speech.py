"""Synthetic speech: example sentences of WordNet, spoken by the voices of flite, 16 kHz."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from trimask import io
from trimask.datasets.benchmark import Benchmark, Collected, Source
from trimask.datasets.package import DebianPackage
from trimask.datasets.quickstart.build import SENTENCE_FRACTION, WORDNET
from trimask.datasets.quickstart.splits import hash_fraction, hash_split
from trimask.datasets.quickstart.spoken import is_fit, is_plain_word, quoted_examples, spoken_form
from trimask.datasets.store import PackageStore
from trimask.errors import UserError

VOICES = ("slt", "rms", "awb", "kal16")  # Debian's flite voices with 16 kHz and a general vocabulary
WORDNET_BASE = DebianPackage(
    name="wordnet-base",
    version="1:3.0-37",
    sha256="61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
)
FLITE = (
    DebianPackage(
        name="flite",
        version="2.2-5",
        sha256="f4ce03470bf9974c2cb9cacd981e6be29339ef4c97cf994dd6fa3f90e6544db9",
        architecture="amd64",
    ),
    DebianPackage(
        name="libflite1",
        version="2.2-5",
        sha256="bfa8c591f1b47730b30b372ec38e02918a1c9795eada67684e1746390ad2f061",
        architecture="amd64",
    ),
    DebianPackage(
        name="libasound2",
        version="1.2.8-1+b1",
        sha256="44c77b076a7b11ae99712439022d822245b1994c435da564ebd320bb676faf4c",
        architecture="amd64",
    ),
)
_WORDS = (6, 14)
_WRITTEN = re.compile(r"[A-Za-z',;:.!?\- ]+")
_UNREADABLE = re.compile(r"[A-Z]{2}|\.\S|\.\.")  # initials, Roman numerals, ellipses


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class WordnetSpeech(Benchmark):
    """`count` sentences, each spoken by all `voices`."""

    name: ClassVar[str] = "wordnet-speech"
    prepare_options: ClassVar[str] = "--speaker-column speaker --group-by group"

    count: int = 2000
    voices: tuple[str, ...] = VOICES

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"count {self.count}: give at least 1")
        for voice in self.voices:
            if voice not in VOICES:
                raise UserError(f"no voice {voice!r} in wordnet-speech: choose from {', '.join(VOICES)}")
        if len(set(self.voices)) != len(self.voices) or not self.voices:
            raise UserError(f"voices {','.join(self.voices)!r}: give at least one, and each only once")

    def collect(self, store: PackageStore, folder: Path) -> Collected:
        sentences = choose_sentences(quoted_examples(_wordnet(store)), self.count)
        reader = _Reader.find(store, self.voices)
        rows = [
            {
                "file_name": f"{voice}/{hashlib.sha256(spoken.encode()).hexdigest()[:12]}.wav",
                "text": written,
                "speaker": voice,
                "group": spoken,
                "split": hash_split("sentence", spoken, fraction=SENTENCE_FRACTION),
            }
            for spoken, written in sentences.items()
            for voice in self.voices
        ]
        for voice in self.voices:
            (folder / voice).mkdir(exist_ok=True)
        jobs = [(row["text"], row["speaker"], folder / row["file_name"]) for row in rows]
        reader.read_all([job for job in jobs if not job[2].exists()], store)
        return Collected(rows=rows, sources=SOURCES)


SOURCES = (
    Source(
        work="Flite 2.2, voices slt, rms, awb, kal16",
        licence="CMU's, BSD-like: use and redistribution without restriction, with the notices kept",
        attribution="Language Technologies Institute, Carnegie Mellon University, and others; "
        "usr/share/doc/libflite1/copyright in the package libflite1",
    ),
    Source(
        work="WordNet 3.0, quoted examples of its glosses",
        licence="WordNet 3.0 license: use and redistribution without fee, with the notice kept",
        attribution="WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.",
    ),
)


def choose_sentences(quotes: Iterable[str], count: int) -> dict[str, str]:
    """Choose `count` sentences of 6 to 14 plain words: spoken words -> sentence as written.

    Sentences are in the order of a stable hash, as in the embedded data: a smaller count gives a prefix, and
    an embedded sentence has the same split here. Of sentences with equal words, the first in WordNet is used.

    Raises:
        UserError: there are fewer sentences.
    """
    found: dict[str, str] = {}
    for quote in quotes:
        written = " ".join(quote.split())
        if is_readable(written):
            found.setdefault(spoken_form(written), written)
    if count > len(found):
        raise UserError(
            f"--count {count}: WordNet has only {len(found)} suitable sentences, give at most that"
        )
    chosen = sorted(found, key=lambda spoken: hash_fraction("sentence", spoken))[:count]
    return {spoken: found[spoken] for spoken in chosen}


def is_readable(written: str) -> bool:
    """Return whether a sentence has 6 to 14 words, is spoken as it is written, and is inoffensive."""
    if not _WORDS[0] <= len(written.split(" ")) <= _WORDS[1]:
        return False
    if not _WRITTEN.fullmatch(written) or _UNREADABLE.search(written):
        return False
    words = spoken_form(written).split()
    return all(map(is_plain_word, words)) and is_fit(words)


def _wordnet(store: PackageStore) -> Path:
    """Return the folder of WordNet's data files: the installed one, or that of the package."""
    if (WORDNET / "data.noun").is_file():
        store.note_installed("wordnet-base", "3.0", WORDNET / "data.noun")
        return WORDNET
    return store.unpack(WORDNET_BASE) / WORDNET.relative_to("/")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class _Reader:
    """The program flite, and the environment with its libraries."""

    program: str
    environment: Mapping[str, str]

    @classmethod
    def find(cls, store: PackageStore, voices: Iterable[str]) -> "_Reader":
        """Find the installed flite, or unpack its packages. Raise UserError if it lacks one of `voices`."""
        installed = shutil.which("flite")
        if installed is not None:
            reader = cls(program=installed, environment=dict(os.environ))
            version = re.search(r"flite-([\w.]+)", reader._run("--version").stdout)
            store.note_installed("flite", version[1] if version else "unknown", Path(installed))
        else:
            try:
                roots = [store.unpack(package) for package in FLITE]
            except (OSError, ValueError) as error:
                raise type(error)(f"{error}; or install flite yourself") from error
            libraries = os.pathsep.join(
                str(path) for root in roots for path in root.glob("usr/lib/*-linux-gnu")
            )
            environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
            reader = cls(program=str(roots[0] / "usr/bin/flite"), environment=environment)
        listed = reader._run("-lv").stdout.partition(":")[2].split()
        if missing := [voice for voice in voices if voice not in listed]:
            raise UserError(
                f"{reader.program} lacks the voice {missing[0]}, or does not run here (its voices are "
                f"{', '.join(listed) or 'none'}): install flite (Debian, Ubuntu: apt-get install flite)"
            )
        return reader

    def read_all(self, jobs: list[tuple[str, str, Path]], store: PackageStore) -> None:
        """Synthesize each job (text, voice, path). Finished files are kept after an interruption."""
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:  # threads wait for processes
            waiting = [pool.submit(self._read, *job) for job in jobs]
            try:
                for number, done in enumerate(as_completed(waiting), 1):
                    done.result()
                    store.report(f"synthesizing sentences {number}/{len(jobs)}")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _read(self, text: str, voice: str, path: Path) -> None:
        with io.atomic_write(path) as temporary:
            done = self._run("-voice", voice, "-t", text, "-o", str(temporary))
            if done.returncode or not temporary.stat().st_size:
                raise OSError(f"flite could not synthesize {text!r} ({done.stderr.strip()!r})")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self.program, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=dict(self.environment), check=False
        )
