"""The interface of the parts of a report."""

from abc import ABC, abstractmethod
from html import escape


class Block(ABC):
    """A part of a section, which can render itself as HTML."""

    __slots__ = ()

    @abstractmethod
    def html(self) -> str:
        """Render the block as HTML, with all text escaped."""


def prose_html(text: str) -> str:
    """Escape `text` for HTML; parts between back-ticks become <code>."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
