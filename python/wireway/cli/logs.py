"""How a command that serves logs: lines for people, or one JSON object a line. Owns both forms; knows no server.

With JSON everything on stderr is an object: what is logged, what the command says of its start and its end, warnings of
Python, an error that ends it.
"""

from __future__ import annotations

import json
import logging
import sys
from enum import StrEnum
from types import TracebackType
from typing import Any

from wireway.cli import failing

__all__ = ["LogStyle", "event", "is_json", "set_up"]

logger = logging.getLogger("wireway.command")


class LogStyle(StrEnum):
    """How log lines look."""

    HUMAN = "human"
    JSON = "json"


class _JsonLines(logging.Formatter):
    """One object a line: time, level, logger, message, and what a record has in `fields`; error with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


_style = LogStyle.HUMAN


def set_up(style: LogStyle, level: str = "info") -> None:
    """Log so from now on."""
    global _style
    _style = style
    handler = logging.StreamHandler()
    human = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler.setFormatter(_JsonLines() if style is LogStyle.JSON else human)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(style is LogStyle.JSON)
    if style is LogStyle.JSON:
        sys.excepthook = _log_uncaught
        failing.tell = logger.error


def is_json() -> bool:
    """Whether stderr is for programs."""
    return _style is LogStyle.JSON


def event(message: str, **fields: Any) -> None:
    """Something that people are told elsewhere: for programs only."""
    if is_json():
        logger.info(message, extra={"fields": fields})


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logger.critical("an error that nobody caught", exc_info=(kind, error, traceback))
