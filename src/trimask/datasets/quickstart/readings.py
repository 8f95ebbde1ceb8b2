"""Synthesize more sentences than the embedded data contains.

`python -m trimask.datasets.quickstart.readings --out DIR [--wordnet DIR] [--num-sentences N]`

DIR then has the embedded recordings and the new ones, which are lossless: train on them with
`--data.readings DIR`. This needs flite and WordNet (`apt-get install flite wordnet-base`), and takes about 15
minutes for all of the 16,037 sentences. Equal versions of flite and WordNet give equal samples.
"""

import argparse
import io
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import soundfile

from trimask import seals
from trimask.datasets.quickstart.build import SPEECH_METADATA, WORDNET, sentence_jobs
from trimask.datasets.quickstart.spoken import quoted_examples, select_sentences
from trimask.datasets.quickstart.tables import read_table, write_table
from trimask.datasets.quickstart.voice import SAMPLE_RATE, require_flite, speak
from trimask.errors import UserError


def read_sentences(out: Path, *, wordnet: Path = WORDNET, num_sentences: int | None = None) -> Iterator[str]:
    """Write speech.parquet into `out`, and yield progress messages.

    Raises:
        UserError: flite or WordNet is missing, or WordNet has another version than that of the embedded
            sentences; `out` is no folder; `num_sentences` is below 1.
    """
    if num_sentences is not None and num_sentences < 1:
        raise UserError(f"num_sentences is {num_sentences}: must be at least 1; leave it out for all")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder")
    require_flite()
    rows = read_table("speech")
    embedded = [row["text"] for row in rows if row["kind"] == "sentence"]
    sentences = select_sentences(quoted_examples(wordnet), num_sentences or sys.maxsize)
    # A smaller number gives a prefix, so the first sentences have the splits and names of the embedded ones.
    if sentences[: len(embedded)] != embedded:
        raise UserError(
            f"the sentences of {wordnet} do not begin with the {len(embedded):,} embedded ones: use WordNet "
            f"3.0 (apt-get install wordnet-base), and at least {len(embedded)} sentences"
        )
    jobs = sentence_jobs(sentences)[len(embedded) :]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:  # threads wait for processes
        for number, row in enumerate(pool.map(_read_aloud, jobs), 1):
            rows.append(row)
            if number % 100 == 0 or number == len(jobs):
                yield f"synthesizing sentences {number:,}/{len(jobs):,}"
    out.mkdir(parents=True, exist_ok=True)
    path = write_table(out, "speech", rows, SPEECH_METADATA | {"encoding": "of further sentences: FLAC"})
    seals.write_index(out, {path.name: seals.file_sha256(path)})
    yield f"{path}  {len(rows):,} recordings, {path.stat().st_size / 1e6:.0f} MB"


def _read_aloud(job: dict[str, Any]) -> dict[str, Any]:
    samples = speak(job["text"], job["voice"])
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return {**job, "audio": encoded.getvalue(), "sample_rate": SAMPLE_RATE, "num_samples": len(samples)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, default=WORDNET)
    parser.add_argument("--num-sentences", type=int)
    arguments = parser.parse_args()
    try:
        for message in read_sentences(
            arguments.out, wordnet=arguments.wordnet, num_sentences=arguments.num_sentences
        ):
            print(message, file=sys.stderr, flush=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
