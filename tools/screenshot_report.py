"""Take a picture of the report's first screen, for the README.

    python tools/screenshot_report.py --page results/report.html --output docs/report.png

It needs playwright (envs/requirements-dev.txt) and Debian's chromium.
"""

import argparse
import shutil
from pathlib import Path

from playwright import sync_api

from hrnetpose import stage
from hrnetpose.stage import StageError

WIDTH, HEIGHT = 1280, 760
"""Pixels of the first screen."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--page", type=Path, required=True, help="the report (HTML)")
    command.add_argument("--output", type=Path, required=True, help="the picture (PNG)")
    command.add_argument("--dark", action="store_true", help="as it is on a dark screen")
    return command


def main(*, page: Path, output: Path, dark: bool) -> None:
    """Open the page and take a picture of it.

    Raises:
        StageError: there is no page or no browser.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise StageError("there is no chromium; install it: apt-get install chromium")
    if not page.is_file():
        raise StageError(f"--page {page}: there is no such file; make it: make report")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        shown = opened.new_page(
            viewport={"width": WIDTH, "height": HEIGHT},
            color_scheme="dark" if dark else "light",
        )
        shown.goto(page.resolve().as_uri())
        shown.wait_for_selector("figure[data-chart=plot].drawn .live svg")
        shown.screenshot(path=output)
        opened.close()


if __name__ == "__main__":
    stage.run(parser(), main)
