"""Files from elsewhere: fetched or copied, checked, and only then given their name."""

import logging
import shutil
from pathlib import Path

from hrnetpose import files
from hrnetpose.stage import StageError

TIMEOUT = (10, 60)
"""Seconds to connect, and between two pieces."""


def fetch(source: str, output: Path, sha256: str = "") -> None:
    """Brings a file here.

    Args:
        source: an http(s) URL or a path.
        output: where it goes.
        sha256: its hash or the first digits of it; not checked if empty.

    Raises:
        StageError: it cannot be had, breaks off, or is another file than expected.
    """
    with files.atomic_path(output) as temporary:
        if "://" in source:
            _download(source, temporary, output)
        else:
            try:
                shutil.copyfile(source, temporary)
            except FileNotFoundError as error:
                raise StageError(f"{source}: there is no such file") from error
        found = files.sha256(temporary)
        if not found.startswith(sha256):
            raise StageError(
                f"{source}: sha256 is {found}, expected {sha256}; it is not the right file, or it "
                "is damaged: correct `sha256` in the configuration or fetch it again"
            )
    logging.info("%s: sha256 %s", output, found)


def _download(url: str, temporary: Path, output: Path) -> None:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    remedy = f"on a machine without internet, put the file at {output} by hand"
    retry = Retry(total=4, backoff_factor=1, status_forcelist=[429, 500, 502, 503, 504])
    with requests.Session() as session, temporary.open("wb") as file:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        try:
            with session.get(url, stream=True, timeout=TIMEOUT) as response:
                response.raise_for_status()
                for piece in response.iter_content(1 << 20):
                    file.write(piece)
        except requests.RequestException as error:
            raise StageError(f"{url}: cannot be fetched: {error}; {remedy}") from error
        expected = int(response.headers.get("Content-Length", -1))
        # A compressed transfer has another length than the file.
        if "Content-Encoding" not in response.headers and expected not in (-1, file.tell()):
            raise StageError(
                f"{url}: broke off at {file.tell()} of {expected} bytes; run again, or {remedy}"
            )
