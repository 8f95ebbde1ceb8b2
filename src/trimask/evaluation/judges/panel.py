"""Which judges there are for one evaluation, and what is left out for want of one."""

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
    """The judges at hand; None where there is none."""

    recognizer: Recognizer | None = None
    speaker: SpeakerJudge | None = None
    quality: QualityJudge | None = None
    images: ImageJudge | None = None
    sentences: SentenceJudge | None = None
    language_model: LanguageJudge | None = None

    @classmethod
    def parse(cls, words: Sequence[str]) -> "Panel":
        """From words: a folder that `fetch` filled (or some of it), or `role=NAME_OR_FOLDER`; later ones win.

        Raises:
            UserError: unknown roles, or folders with no judge in them; the message names all.
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
                        f"{word} holds none of the judges {', '.join(PINNED)}: fill it with "
                        f"`trimask evaluate --fetch-judges {word}`, or name one as role=FOLDER"
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
        """What is wrong with the judges, as far as it can be told before they are asked anything: a library
        that is not installed, a model that is not there, a file that is not what was pinned.
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
        """Name and source of each judge, by role. Sources are given by their last part: folders differ."""
        judges = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            role: {"name": judge.name, "source": Path(judge.source).name}
            for role, judge in judges.items()
            if judge is not None
        }

    def list_left_out(self) -> list[dict[str, str]]:
        """What cannot be scored, and why."""
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
    """The pinned judges that lie in `folder`: role -> its own folder."""
    return {
        judge.role: str(folder / name)
        for name, judge in PINNED.items()
        if all((folder / name / file).exists() for file in judge.files)
    }
