"""What a report is made of: anything that can write itself as HTML."""

from abc import ABC, abstractmethod
from html import escape


class Block(ABC):
    """A part of a section."""

    __slots__ = ()

    @abstractmethod
    def html(self) -> str:
        """The block as HTML; all text in it is escaped."""


def prose_html(text: str) -> str:
    """Escaped text, in which `code` between back-ticks is set as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
