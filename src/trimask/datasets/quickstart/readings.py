"""Reads more sentences aloud than the embedded data has room for.

`python -m trimask.datasets.quickstart.readings --out DIR [--wordnet DIR] [--num-sentences N]`

DIR then holds the embedded readings and the further ones, losslessly: train on them with
`--data.readings DIR`. It takes flite and WordNet (`apt-get install flite wordnet-base`), and about 15 minutes
for all of the 16,037 sentences. Equal versions of flite and WordNet give equal samples.
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
    """Write speech.parquet into `out`; says now and then how far it is.

    Raises:
        UserError: flite or WordNet is missing, or WordNet is not the version that the embedded sentences are
            from.
    """
    require_flite()
    rows = read_table("speech")
    embedded = [row["text"] for row in rows if row["kind"] == "sentence"]
    sentences = select_sentences(quoted_examples(wordnet), num_sentences or sys.maxsize)
    # A smaller number is a prefix of a larger one: so splits and names are those of the embedded ones.
    if sentences[: len(embedded)] != embedded:
        raise UserError(
            f"the sentences of {wordnet} do not begin with the {len(embedded):,} embedded ones: take "
            "WordNet 3.0 (apt-get install wordnet-base), and no fewer sentences"
        )
    jobs = sentence_jobs(sentences)[len(embedded) :]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:  # each waits for a process
        for number, row in enumerate(pool.map(_read_aloud, jobs), 1):
            rows.append(row)
            if number % 100 == 0 or number == len(jobs):
                yield f"reading sentences aloud {number:,}/{len(jobs):,}"
    out.mkdir(parents=True, exist_ok=True)
    path = write_table(out, "speech", rows, SPEECH_METADATA | {"encoding": "of further sentences: FLAC"})
    seals.write_index(out, {path.name: seals.file_sha256(path)})
    yield f"{path}  {len(rows):,} readings, {path.stat().st_size / 1e6:.0f} MB"


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
    return 0


if __name__ == "__main__":
    sys.exit(main())
