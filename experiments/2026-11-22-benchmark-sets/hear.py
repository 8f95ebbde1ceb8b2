"""What a recognizer hears in a fetched benchmark set, in English: `python hear.py FOLDER --judge WHISPER`.

Word error rate per speaker over the clips that come first by a stable hash of their text.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
import soxr

from trimask.data.quickstart.splits import hash_fraction
from trimask.evaluation.judges.recognizer import Recognizer
from trimask.evaluation.speech import count_words, word_error_rate
from trimask.evaluation.words import normalize_words

RATE = 16_000


def load(path: Path) -> np.ndarray:
    """One channel at 16 kHz."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate, RATE).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--judge", required=True, help="a faster-whisper folder")
    parser.add_argument("--clips", type=int, default=200, help="of each speaker")
    parser.add_argument("--least-words", type=int, default=1)
    chosen = parser.parse_args()
    rows = [json.loads(line) for line in (chosen.folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        row["clip"] = row["audio"] if "audio" in row else row["file_name"]
    rows = [row for row in rows if row["clip"] and row.get("language", "en") == "en"]
    rows = [row for row in rows if len(normalize_words(row["text"])) >= chosen.least_words]
    rows.sort(key=lambda row: hash_fraction("heard", row["text"]))
    for speaker in sorted({row["speaker"] for row in rows}):
        clips = [row for row in rows if row["speaker"] == speaker][: chosen.clips]
        heard = Recognizer(source=chosen.judge).hear(
            [load(chosen.folder / row["clip"]) for row in clips], RATE
        )
        rate = word_error_rate([row["text"] for row in clips], heard)
        print(
            f"{speaker}: {len(clips)} clips, {count_words([row['text'] for row in clips])} words, "
            f"{100 * rate.value:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]",
            flush=True,
        )


if __name__ == "__main__":
    main()
