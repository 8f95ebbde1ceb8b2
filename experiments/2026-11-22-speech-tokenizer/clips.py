"""The clips of this experiment: WordNet's examples read by four flite voices, and people's telephone prompts
(Asterisk's core sounds), as 16 kHz WAV files with a table of what is said in them.
"""

import gzip
import json
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import numpy as np
import soundfile
import soxr
import torch
from jaxtyping import Float
from torch import Tensor

from trimask.data.quickstart.splits import hash_fraction
from trimask.data.quickstart.spoken import quoted_examples, select_sentences
from trimask.evaluation.words import normalize_words
from trimask.io import atomic_write

SAMPLE_RATE = 16_000
SYNTHETIC = ("slt", "rms", "awb", "kal16")
HUMAN = "en_US_f_Allison"
# People who speak other languages: they train (the Russian voice does not, it is there to be measured).
FOREIGN = ("fr_CA_f_June", "es_MX_f_Allison", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU")
UNSEEN_VOICE = "ru_RU_f_IvrvoiceRU"
NUM_TEST, NUM_VALIDATION, NUM_TRAIN = 220, 24, 560
_LONGEST = 15.0  # seconds; the judge listens to 30 at once


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of metadata.jsonl."""

    file_name: str
    text: str
    speaker: str
    split: str


def read_rows(folder: Path) -> list[Row]:
    """The table of a folder of clips."""
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    return [Row(**json.loads(line)) for line in lines]


def waveform(folder: Path, row: Row) -> Float[Tensor, "samples"]:
    """The samples of one clip."""
    samples, rate = soundfile.read(folder / row.file_name, dtype="float32")
    assert rate == SAMPLE_RATE and samples.ndim == 1, (row.file_name, rate, samples.shape)
    return torch.from_numpy(samples)


def build(folder: Path, *, wordnet: Path, sounds: Path) -> None:
    """Speaks and resamples all clips that are not there yet, and writes metadata.jsonl when all are."""
    rows = [*_synthetic(folder, wordnet), *_human(folder, sounds), *_foreign(folder, sounds)]
    with atomic_write(folder / "metadata.jsonl") as path:
        path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")


def _synthetic(folder: Path, wordnet: Path) -> list[Row]:
    """Every voice reads sentences of its own: four times as many words to judge on."""
    each = NUM_TEST + NUM_VALIDATION + NUM_TRAIN
    sentences = select_sentences(quoted_examples(wordnet), each * len(SYNTHETIC))
    rows = []
    for v, voice in enumerate(SYNTHETIC):
        for i, text in enumerate(sentences[v * each : (v + 1) * each]):
            split = "test" if i < NUM_TEST else "validation" if i < NUM_TEST + NUM_VALIDATION else "train"
            row = Row(file_name=f"{voice}/{i:04}.wav", text=text, speaker=voice, split=split)
            path = folder / row.file_name
            if not path.exists():
                with atomic_write(path) as temporary:
                    command = ["flite", "-voice", voice, "-t", text, "-o", str(temporary)]
                    subprocess.run(command, check=True, capture_output=True)
            rows.append(row)
    return rows


def _human(folder: Path, sounds: Path) -> list[Row]:
    """English prompts; those of one or two words only train, and the same words never stand in two splits."""
    table = sounds / "share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    rows = []
    for line in gzip.decompress(table.read_bytes()).decode().splitlines():
        name, _, text = line.partition(":")
        path = sounds / "share/asterisk/sounds" / HUMAN / f"{name.strip()}.wav"
        words = normalize_words(text)
        is_sound = name.startswith(";") or re.search(r"[\[\]<>()]", text) or "silence/" in name
        if is_sound or not words or not path.is_file() or soundfile.info(path).duration > _LONGEST:
            continue
        place = hash_fraction("asterisk", " ".join(words)) + (len(words) < 3)
        rows.append((place, name.strip(), text.strip(), path))
    rows.sort()
    made = []
    for i, (_, name, text, path) in enumerate(rows):
        split = "test" if i < NUM_TEST else "validation" if i < NUM_TEST + NUM_VALIDATION else "train"
        if i and rows[i - 1][0] == rows[i][0]:
            split = made[-1].split
        target = f"{HUMAN}/{name.replace('/', '-')}.wav"
        _resample(path, folder / target)
        made.append(Row(file_name=target, text=text, speaker=HUMAN, split=split))
    return made


def _foreign(folder: Path, sounds: Path) -> list[Row]:
    """Prompts in other languages, without their words: nobody judges them."""
    rows = []
    for voice in FOREIGN:
        source = sounds / "share/asterisk/sounds" / voice
        for path in sorted(source.rglob("*.wav")):
            name = "-".join(path.relative_to(source).parts)
            if not 0.8 < soundfile.info(path).duration < _LONGEST or "silence" in name or "beep" in name:
                continue
            split = "validation" if hash_fraction("asterisk", name) < 0.08 else "train"
            split = "test" if voice == UNSEEN_VOICE else split
            _resample(path, folder / voice / name)
            rows.append(Row(file_name=f"{voice}/{name}", text="", speaker=voice, split=split))
    return rows


def _resample(source: Path, target: Path) -> None:
    if target.exists():
        return
    samples, rate = soundfile.read(source, dtype="float32")
    assert samples.ndim == 1, source
    whole = np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), np.float32).clip(-1, 1)
    with atomic_write(target) as temporary:
        soundfile.write(temporary, whole, SAMPLE_RATE, subtype="PCM_16")
