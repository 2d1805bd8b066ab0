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
# On a machine without a driver, calls log this beside their own error.
_AFTERMATH = "CUDA driver version is insufficient"


def make_error(flavour: Flavour, source: Path, what: str) -> StageError:
    """Returns an error with the messages that the logger collected, the cause first."""
    errors = [" ".join(text.split()) for text in get_logger(flavour.package).errors]
    causes = [text for text in dict.fromkeys(errors) if _AFTERMATH not in text] or errors
    first = causes[0] if causes else "it does not say why"
    return StageError(f"{source}: {flavour.title} {what}: {first}", causes[1:])


@cache
def get_logger(package: str) -> Any:
    """Returns the one logger of the process: TensorRT keeps the first that it is given."""
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
            self._seen: set[str] = set()

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity)
            if level == logging.ERROR:
                self.errors.append(message)
            if level is not None and message not in self._seen:
                self._seen.add(message)
                logging.log(level, "%s: %s", package, message)

    return Logger()


def create_monitor(package: str) -> Any:
    """Returns a monitor that logs the progress of a build."""
    trt: Any = importlib.import_module(package)

    class Monitor(trt.IProgressMonitor):
        """Logs each phase when it begins, and the step it is at every few seconds."""

        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}
            self._logged = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            new = phase_name not in self._steps
            self._steps[phase_name] = num_steps
            if new:
                logging.info("%s: %d steps", phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if time.monotonic() - self._logged > _SECONDS_BETWEEN:
                self._logged = time.monotonic()
                logging.info("%s: %d of %d", phase_name, step + 1, self._steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            """Nothing to log: the next phase is."""

    return Monitor()
