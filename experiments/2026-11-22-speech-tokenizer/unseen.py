"""`python unseen.py WORDNET ASTERISK OUT`: clips that nothing was trained on, cut from what `trimask data
fetch wordnet-speech` and `trimask data fetch asterisk` leave, for `trimask tokenizers --measure --data OUT`.

Of the validation and test splits: the first 60 sentences of each flite voice, shuffled by Random(0), and all
English prompts of three words and more; none says what a training clip says. `--development`: the next 60
sentences and the shorter prompts, to choose between variants on without looking at the others.
"""

import argparse
import json
import random
import shutil
from pathlib import Path
from typing import Any

VOICES = ("slt", "rms", "awb", "kal16")
EACH = 60
_COLUMNS = ("file_name", "text", "speaker", "split")


def table(folder: Path) -> list[dict[str, Any]]:
    """The rows of a fetched set."""
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]


def cut(
    sentences: list[dict[str, Any]], prompts: list[dict[str, Any]], *, development: bool
) -> list[list[dict[str, Any]]]:
    """What is taken of the one set and of the other."""
    spoken: list[dict[str, Any]] = []
    for voice in VOICES:
        rows = [row for row in sentences if row["speaker"] == voice and row["split"] != "train"]
        random.Random(0).shuffle(rows)
        spoken += rows[EACH : 2 * EACH] if development else rows[:EACH]
    told = [
        row
        for row in prompts
        if row["language"] == "en"
        and row["split"] != "train"
        and (len(row["text"].split()) < 3) == development
    ]
    trained = {words(row) for row in [*sentences, *prompts] if row["split"] == "train"}
    return [[row for row in rows if words(row) not in trained] for rows in (spoken, told)]


def words(row: dict[str, Any]) -> str:
    """The text without case and punctuation."""
    return " ".join("".join(c if c.isalnum() else " " for c in row["text"].lower()).split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wordnet", type=Path)
    parser.add_argument("asterisk", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--development", action="store_true")
    options = parser.parse_args()
    folders = (options.wordnet, options.asterisk)
    taken = cut(*map(table, folders), development=options.development)
    lines = []
    for folder, rows in zip(folders, taken, strict=True):
        for row in rows:
            target = options.out / row["file_name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / row["file_name"], target)
            lines.append(json.dumps({name: row[name] for name in _COLUMNS}) + "\n")
    (options.out / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines)} clips in {options.out}")


if __name__ == "__main__":
    main()
