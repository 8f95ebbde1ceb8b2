"""The judges of one evaluation, and the scores that are left out for lack of one."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import final

from trimask.errors import UserError
from trimask.evaluation.judges.images import ImageJudge
from trimask.evaluation.judges.language_model import LanguageJudge
from trimask.evaluation.judges.pinned import PINNED
from trimask.evaluation.judges.quality import QualityJudge
from trimask.evaluation.judges.recognizer import Recognizer
from trimask.evaluation.judges.sentences import SentenceJudge
from trimask.evaluation.judges.speaker import SpeakerJudge

_KINDS = {
    "recognizer": Recognizer,
    "speaker": SpeakerJudge,
    "quality": QualityJudge,
    "images": ImageJudge,
    "sentences": SentenceJudge,
    "language_model": LanguageJudge,
}
_SCORES = {
    "recognizer": "word and character error rate of generated speech",
    "speaker": "speaker similarity",
    "quality": "speech quality",
    "images": "Fréchet and kernel distance on the features of a network, caption agreement",
    "sentences": "caption agreement",
    "language_model": "generative perplexity, and the ceiling of the continuation task",
}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """The available judges by role; None where there is none."""

    recognizer: Recognizer | None = None
    speaker: SpeakerJudge | None = None
    quality: QualityJudge | None = None
    images: ImageJudge | None = None
    sentences: SentenceJudge | None = None
    language_model: LanguageJudge | None = None

    @classmethod
    def parse(cls, words: Sequence[str]) -> "Panel":
        """Parse words of the command line: folders that `fetch` filled, or `role=NAME_OR_FOLDER`.

        Later words override earlier ones.

        Raises:
            UserError: unknown roles, or folders without a judge; the message lists all of them.
        """
        sources: dict[str, str] = {}
        wrong = []
        for word in words:
            role, equals, source = word.partition("=")
            role = role.replace("-", "_")
            if equals and role in _KINDS and source:
                sources[role] = source
            elif Path(word).is_dir():
                found = find_judges(Path(word))
                if not found:
                    wrong.append(
                        f"{word} has none of the judges {', '.join(PINNED)}: fill it with "
                        f"`trimask evaluate --fetch-judges {word}`, or give one as role=FOLDER"
                    )
                sources |= found
            else:
                roles = ", ".join(_KINDS).replace("_", "-")
                wrong.append(
                    f"judge {word!r} is neither a folder nor role=NAME_OR_FOLDER with a role of {roles} "
                    "(`trimask evaluate --fetch-judges DIR` fills a folder)"
                )
        if wrong:
            raise UserError("; ".join(wrong))
        return cls(**{role: _KINDS[role](source=source) for role, source in sources.items()})

    def problems(self) -> list[str]:
        """List what is wrong with the judges, as far as it can be checked without running them.

        That is a missing library, a missing model, or a file that is not the pinned one.
        """
        found = []
        for role in _KINDS:
            judge = getattr(self, role)
            if judge is not None:
                try:
                    judge.check()
                except (ImportError, OSError, ValueError) as error:
                    lines = str(error).splitlines() or [type(error).__name__]
                    found.append(f"judge {role.replace('_', '-')}={judge.source}: {lines[0].strip()}")
        return found

    def as_json(self) -> dict[str, dict[str, str]]:
        """Return name and source of each judge, by role; of a source only the last part of its path."""
        judges = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            role: {"name": judge.name, "source": Path(judge.source).name}
            for role, judge in judges.items()
            if judge is not None
        }

    def list_left_out(self) -> list[dict[str, str]]:
        """List the scores that lack their judge, and why, as JSON values."""
        missing = [
            (role.replace("_", "-"), scores)
            for role, scores in _SCORES.items()
            if getattr(self, role) is None
        ]
        return [
            {"scores": scores, "why": f"no judge {role}: give --judges DIR or --judges {role}=NAME"}
            for role, scores in missing
        ]


def find_judges(folder: Path) -> dict[str, str]:
    """Find the pinned judges in `folder`: role -> its subfolder."""
    return {
        judge.role: str(folder / name)
        for name, judge in PINNED.items()
        if all((folder / name / file).exists() for file in judge.files)
    }
