"""Owns what is laid over the table: a text that can be scrolled, and a question that y answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

__all__ = ["Sheet"]


class Sheet(ModalScreen[bool]):
    """Text over the table.

    :param text: what stands there.
    :param question: y answers it with yes, every other key with no.
    :param again: makes the text anew, by the key r; c captures, with the argument True.
    """

    DEFAULT_CSS = """
    Sheet { align: center middle; }
    Sheet VerticalScroll {
        width: 96%; max-width: 110; height: auto; max-height: 96%;
        border: round $accent; padding: 0 1; background: $surface;
    }
    """

    def __init__(self, text: str, question: bool = False, again: Callable[[bool], str] | None = None) -> None:
        super().__init__()
        self._text, self._question, self._again = text, question, again

    def compose(self) -> ComposeResult:
        """Make what is in it."""
        with VerticalScroll():
            yield Static(Text(self._text), id="text")

    def on_key(self, event: Any) -> None:
        """A key while it is there."""
        if self._question:
            self.dismiss(event.key == "y")
        elif event.key in ("escape", "q", "d", "enter", "question_mark", "space"):
            self.dismiss(False)
        elif event.key in ("r", "c") and self._again is not None:
            self.query_one("#text", Static).update(Text(self._again(event.key == "c")))
        elif event.key in ("up", "down", "pageup", "pagedown", "home", "end", "ctrl+c", "ctrl+q"):
            return  # they scroll it, or leave
        event.stop()
