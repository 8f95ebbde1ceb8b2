"""What a study knows besides its results: values derived from them, and other studies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from trimask.studies.trial import Result


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class UsedStudy:
    """Another study's results and derived values, both by name."""

    study: str
    results: Mapping[str, Result]
    derived: Mapping[str, Any]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """Values that a study has derived and stored, by name, and the studies that it uses, by the name that it
    needs them under. `times`: when each value was stored (UTC, ISO 8601).
    """

    derived: Mapping[str, Any] = field(default_factory=dict)
    used: Mapping[str, UsedStudy] = field(default_factory=dict)
    times: Mapping[str, str] = field(default_factory=dict)


NOTHING = Known()
