"""Write weights of the first format in today's: `python convert_weights.py OLD.safetensors NEW.safetensors`.

In the first format the vocabulary had a field per modality (text, image, audio), and ids followed from the
order of two enums. Today's names its modalities, tasks and special tokens in the order of their ids. Both
give each token the same id, so the tensors are copied as they are.
"""

import json
import sys
from pathlib import Path
from typing import Any

from safetensors import safe_open

from trimask import io
from trimask.config import from_dict, to_dict
from trimask.model.weights import KIND, load_denoiser
from trimask.seals import SEAL
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import CodeSpace, Vocabulary

_NAMES = {"text": "text", "image": "image", "audio": "speech"}
_HEADER = {"config", "format", "format_version", "kind", SEAL}


def vocabulary_of(old: dict[str, Any]) -> dict[str, Any]:
    """The vocabulary in today's form; the frame rate is that of the tokenizers that ship."""
    spaces, layouts = [], {}
    for before, now in _NAMES.items():
        row = dict(old[before])
        layouts[now] = row.pop("layout")
        spaces.append({"name": now, **row})
    spaces[2]["frame_rate"] = float(Tokenizers.load().speech.frame_rate)
    rows = tuple(from_dict(CodeSpace, space) for space in spaces)
    whole = {**to_dict(Vocabulary(spaces=rows)), "layouts": layouts}
    return whole | {name: old[name] for name in ("alignment",) if name in old}


def run_of(old: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration in today's form."""
    run, objective, slack = dict(old), dict(old["objective"]), dict(old["slack"])
    weights = objective.pop("modality_weights", (1.0, 1.0, 1.0))
    codebooks = objective.pop("codebook_weights", ((), (), ()))
    layouts = ({"type": "Flattened"}, run.pop("image_layout"), run.pop("audio_layout"))
    run["modalities"] = {
        now: {
            "layout": layouts[place],
            "schedule": objective.pop(before),
            "weight": weights[place],
            "codebook_weights": codebooks[place],
        }
        for place, (before, now) in enumerate(_NAMES.items())
    }
    slack["filled"] = {"image_to_text": slack.pop("caption_length")}
    return to_dict(from_dict(RunConfig, {**run, "objective": objective, "slack": slack}))


def main(old: Path, new: Path) -> None:
    with safe_open(old, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    config = json.loads(metadata["config"])
    config["vocabulary"] = vocabulary_of(config["vocabulary"])
    others = {name: value for name, value in metadata.items() if name not in _HEADER}
    if "run" in others:
        others["run"] = json.dumps(run_of(json.loads(others["run"])), ensure_ascii=False)
    io.save_tensors(new, tensors, kind=KIND, config=config, **others)
    load_denoiser(new)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
