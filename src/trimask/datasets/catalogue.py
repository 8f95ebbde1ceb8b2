"""The catalogue of benchmark sets, with their sizes and licences."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

from trimask.datasets.asterisk import Asterisk
from trimask.datasets.benchmark import Benchmark
from trimask.datasets.emoji import Emoji
from trimask.datasets.tuxpaint import Tuxpaint
from trimask.datasets.wordnet_speech import WordnetSpeech


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An entry of the catalogue; `counts`, `download` and `size` (bytes) hold for default options."""

    benchmark: type[Benchmark]
    what: str
    licence: str
    counts: Mapping[str, int]
    download: int
    size: int
    options: tuple[str, ...] = ()


CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {
        entry.benchmark.name: entry
        for entry in (
            Entry(
                benchmark=Emoji,
                what="pictures: the emoji of Fluent 3D (256 px), Google and Twitter (64 px), captioned",
                licence="MIT, Apache-2.0, CC-BY-4.0",
                counts={"train": 8907, "composition": 213, "validation": 749, "test": 1021},
                download=158_500_000,
                size=45_000_000,
            ),
            Entry(
                benchmark=WordnetSpeech,
                what="speech: sentences of WordNet, each read by four voices of flite, 16 kHz",
                licence="BSD-like (flite), WordNet 3.0",
                counts={"train": 6724, "validation": 620, "test": 656},
                download=19_900_000,
                size=760_000_000,
                options=("count", "voices"),
            ),
            Entry(
                benchmark=Asterisk,
                what="human speech: telephone prompts, one speaker a language, 8 kHz",
                licence="CC-BY-SA-3.0 (en, es, fr), CC-BY-3.0 (it, ru)",
                counts={"train": 340, "validation": 61, "test": 75},
                download=18_300_000,
                size=22_000_000,
                options=("languages",),
            ),
            Entry(
                benchmark=Tuxpaint,
                what="triples: stamps with captions, most of them read aloud by people",
                licence="GPL-2",
                counts={"train": 1676, "validation": 195, "test": 183},
                download=160_900_000,
                size=70_000_000,
                options=("languages",),
            ),
        )
    }
)
