"""Human speech: the telephone prompts of Asterisk, by one professional speaker per language, 8 kHz."""

import gzip
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, final

import soundfile

from trimask.datasets.benchmark import Benchmark, Collected, Source
from trimask.datasets.package import DebianPackage
from trimask.datasets.quickstart.splits import hash_split
from trimask.datasets.store import PackageStore
from trimask.errors import UserError

VERSION = "1.6.1-1"
SPLIT_FRACTION = 0.15  # of the transcripts, each to validation and test; large, since there are few
NOT_SPEECH = frozenset(
    "ascending-2tone descending-2tone beep beeperr confbridge-join confbridge-leave tt-monkeys".split()
)
MOST_CHARACTERS_PER_SECOND = 22  # the fastest rate of the speakers; above, part of the transcript is missing
_SIGNS = re.compile(r"[\[\](){}<>*#@/=+$%&_|]")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class _Voice:
    speaker: str
    licence: str
    attribution: str
    sounds: DebianPackage
    texts: DebianPackage


def _make_voice(
    language: str, speaker: str, licence: str, attribution: str, sounds: str, texts: str
) -> _Voice:
    name = f"asterisk-core-sounds-{language}"
    return _Voice(
        speaker=speaker,
        licence=licence,
        attribution=attribution,
        sounds=DebianPackage(name=f"{name}-wav", version=VERSION, sha256=sounds),
        texts=DebianPackage(name=name, version=VERSION, sha256=texts),
    )


# Licences and names are from usr/share/doc/asterisk-core-sounds-*/copyright; those of Spanish from its
# "Files: *" entry.
VOICES: Mapping[str, _Voice] = MappingProxyType(
    {
        "en": _make_voice(
            "en",
            "allison",
            "CC-BY-SA-3.0",
            "Recorded by Allison Smith (theivrvoice.com) for Digium, Inc.",
            "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
            "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
        ),
        "es": _make_voice(
            "es",
            "allison",
            "CC-BY-SA-3.0",
            "Recorded by Allison Smith (theivrvoice.com) for Digium, Inc.",
            "9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903",
            "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
        ),
        "fr": _make_voice(
            "fr",
            "june",
            "CC-BY-SA-3.0",
            "Recorded by June Wallack (junewallack.com); translated by Clod Patry, Kristopher Lalletti, "
            "June Wallack; funded by Digium, Inc., Unlimitel, BGM Informatique",
            "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e",
            "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
        ),
        "it": _make_voice(
            "it",
            "carlo",
            "CC-BY-3.0",
            "Recorded by Carlo Flora (segreterietelefoniche.it); translated by Silvia Petrin",
            "5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb",
            "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b",
        ),
        "ru": _make_voice(
            "ru",
            "maxim",
            "CC-BY-3.0",
            "Provided by Maxim Topal (ivrvoice.ru)",
            "ccbfaebfa450b7a9ddf644ae0f3d1e9017d5df7c0aebe816e946345589d38201",
            "28a61616bb0cd3345a7ea532dec4df9f071e5d0fa9f8c1a563ea9669002f39ab",
        ),
    }
)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Asterisk(Benchmark):
    """Prompts with their transcripts, in `languages`."""

    name: ClassVar[str] = "asterisk"
    prepare_options: ClassVar[str] = "--speaker-column speaker"

    languages: tuple[str, ...] = ("en",)

    def __post_init__(self) -> None:
        for language in self.languages:
            if language not in VOICES:
                raise UserError(f"no language {language!r} in asterisk: choose from {', '.join(VOICES)}")
        if len(set(self.languages)) != len(self.languages) or not self.languages:
            raise UserError(f"languages {','.join(self.languages)!r}: give at least one, and each only once")

    def collect(self, store: PackageStore, folder: Path) -> Collected:
        rows: list[dict[str, Any]] = []
        dropped: dict[str, list[str]] = {}
        for language in self.languages:
            voice = VOICES[language]
            texts = store.unpack(voice.texts) / f"usr/share/doc/asterisk-core-sounds-{language}"
            sounds = store.unpack(voice.sounds) / "usr/share/asterisk/sounds"
            transcripts = read_transcripts(texts / f"core-sounds-{language}.txt.gz")
            recordings = _recordings(sounds, language)
            for prompt in sorted(transcripts.keys() | recordings.keys()):
                text = tidy(transcripts.get(prompt, ""))
                reason = reason_to_drop(prompt, text, transcripts, recordings)
                if reason is not None:
                    dropped.setdefault(reason, []).append(f"{language}/{prompt}")
                    continue
                name = f"{language}/{prompt}.wav"
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(recordings[prompt], folder / name)
                rows.append(
                    {
                        "file_name": name,
                        "text": text,
                        "speaker": voice.speaker,
                        "language": language,
                        "split": split_of(text, language),
                        "licence": voice.licence,
                    }
                )
        return Collected(rows=rows, sources=self._sources(), dropped=dropped)

    def _sources(self) -> tuple[Source, ...]:
        return tuple(
            Source(
                work=f"Asterisk core sounds, {language}",
                licence=VOICES[language].licence,
                attribution=VOICES[language].attribution,
            )
            for language in self.languages
        )


def read_transcripts(path: Path) -> dict[str, str]:
    """Read lines `prompt: transcript`: prompt -> transcript.

    Lines that start with `;` are comments; of several lines for a prompt, the first is used.
    """
    found: dict[str, str] = {}
    for line in gzip.decompress(path.read_bytes()).decode("utf-8-sig").splitlines():
        prompt, colon, text = line.partition(":")
        if colon and not line.startswith(";"):
            found.setdefault(prompt.strip(), text)
    return found


def _recordings(sounds: Path, language: str) -> dict[str, Path]:
    """Find the recordings: prompt -> file. Their folder is named after the speaker: `en_US_f_Allison`."""
    folders = sorted(sounds.glob(f"{language}_*"))
    if len(folders) != 1:
        raise UserError(
            f"the package has {len(folders)} voices of {language} instead of 1: use version {VERSION}"
        )
    files = sorted(folders[0].rglob("*.wav"))
    return {path.relative_to(folders[0]).with_suffix("").as_posix(): path for path in files}


def tidy(text: str) -> str:
    """Remove the dots that mark the continuation of a sentence: `... for ...` -> `for`."""
    return re.sub(r"^(\.\.\.|…)\s*|\s*(\.\.\.|…)$", "", " ".join(text.split()))


def reason_to_drop(
    prompt: str, text: str, transcripts: dict[str, str], recordings: dict[str, Path]
) -> str | None:
    """Return why a recording and its transcript do not match; None if they do."""
    if prompt not in recordings:
        return "no recording"
    if prompt in NOT_SPEECH or prompt.startswith("silence/"):
        return "tones and silence"
    if prompt.startswith("letters/"):
        return "names of letters and signs"  # written as the letter rather than as its spoken name
    if not text:
        return "no transcript"
    if any("-" in other and f"{other}:" in text for other in transcripts):
        return "lines of other prompts in the transcript"
    if _SIGNS.search(text):
        return "notes or signs in the transcript"  # spoken differently, or not at all
    if not re.search(r"[^\W\d_]", text) or text == text.upper():
        return "initials"
    if len(text) > MOST_CHARACTERS_PER_SECOND * soundfile.info(recordings[prompt]).duration:
        return "transcript longer than the recording"
    return None


def split_of(text: str, language: str) -> str:
    """Return the split of a text; texts that differ only in punctuation and case share a split."""
    words = " ".join(re.findall(r"\w+", text.lower()))
    return hash_split(f"asterisk-{language}", words, fraction=SPLIT_FRACTION)
