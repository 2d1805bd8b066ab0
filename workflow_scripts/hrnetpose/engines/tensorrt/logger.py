"""TensorRT's messages: the logger, the progress of a build, and errors from what was logged."""

import importlib
import logging
import time
from functools import cache
from pathlib import Path
from typing import Any

from hrnetpose.engines.tensorrt.flavour import Flavour
from hrnetpose.stage import StageError

_SECONDS_BETWEEN = 2.0


def reset_logger(flavour: Flavour) -> Any:
    """Return the package's logger, with its collected errors cleared."""
    logger = get_logger(flavour.package)
    logger.errors.clear()
    return logger


def make_error(flavour: Flavour, source: Path | None, failure: str) -> StageError:
    """Return an error with the messages logged since `reset_logger`; TensorRT logs the cause first.

    Args:
        flavour: the package that failed.
        source: the file named in the error.
        failure: what failed, such as "cannot load it".
    """
    logged = dict.fromkeys(get_logger(flavour.package).errors)
    cause, *details = [" ".join(text.split()) for text in logged] or ["no reason given"]
    return StageError(f"{source}: {flavour.title} {failure}: {cause}", details)


@cache
def get_logger(package: str) -> Any:
    """Return the logger of a package, one per process: TensorRT keeps the first one it gets."""
    trt: Any = importlib.import_module(package)
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
        trt.ILogger.Severity.INFO: logging.INFO,
    }

    class Logger(trt.ILogger):
        """Logs each message once and collects errors."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self._logged: set[str] = set()

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity)
            if level == logging.ERROR:
                self.errors.append(message)
            if level is not None and message not in self._logged:
                self._logged.add(message)
                logging.log(level, "%s: %s", package, message)

    return Logger()


def create_monitor(flavour: Flavour) -> Any:
    """Return a monitor that logs the progress of a build."""
    trt: Any = flavour.module

    class Monitor(trt.IProgressMonitor):
        """Logs each phase when it starts, and its current step every few seconds."""

        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}
            self._logged = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if phase_name not in self._steps:
                logging.info("%s: %d steps", phase_name, num_steps)
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if time.monotonic() - self._logged > _SECONDS_BETWEEN:
                self._logged = time.monotonic()
                logging.info("%s: %d of %d", phase_name, step + 1, self._steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            """Required by the interface; the start of the next phase is logged instead."""

    return Monitor()
