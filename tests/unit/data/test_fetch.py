"""A fetched file is the right one and whole, or it is not there."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hrnetpose.data import fetch
from hrnetpose.stage import StageError

CONTENT = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves one file, in all the ways that a server can."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        match self.path:
            case "/whole":
                self.answer(200, CONTENT, len(CONTENT))
            case "/short":
                self.answer(200, CONTENT[:1_500_000], len(CONTENT))
            case "/busy" if self.asked == 1:
                self.answer(503, b"", 0)
            case "/busy":
                self.answer(200, CONTENT, len(CONTENT))
            case "/moved":
                self.send_response(302)
                self.send_header("Location", "/whole")
                self.end_headers()
            case _:
                self.answer(404, b"not here", 8)

    def answer(self, status: int, content: bytes, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on this machine."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Handler.asked = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "weights.pth"


def refusal(source: str, output: Path, sha256: str = "") -> str:
    with pytest.raises(StageError) as error:
        fetch.fetch(source, output, sha256)
    assert str(error.value).startswith(f"{source}: ")
    assert list(output.parent.glob("*")) + list(output.parent.glob(".*")) == []
    return str(error.value)


@pytest.mark.parametrize("sha256", ["", SHA256[:8], SHA256])
@pytest.mark.parametrize("page", ["whole", "moved", "busy"])
def test_a_file_is_fetched_whole(url: str, output: Path, page: str, sha256: str) -> None:
    fetch.fetch(f"{url}/{page}", output, sha256)

    assert output.read_bytes() == CONTENT
    assert [path.name for path in output.parent.iterdir()] == ["weights.pth"]


def test_another_file_than_expected_is_refused(url: str, output: Path) -> None:
    said = refusal(f"{url}/whole", output, "c78dce93")

    assert f"sha256 is {SHA256}, expected c78dce93" in said


def test_a_page_that_is_not_there_is_named_with_a_remedy(url: str, output: Path) -> None:
    said = refusal(f"{url}/missing", output)

    assert "404" in said
    assert f"put the file at {output} by hand" in said


def test_a_transfer_that_breaks_off_is_refused(url: str, output: Path) -> None:
    said = refusal(f"{url}/short", output)

    assert "cannot be fetched" in said or "broke off" in said


def test_an_address_of_another_kind_is_refused(output: Path) -> None:
    assert "cannot be fetched" in refusal("ftp://127.0.0.1/weights.pth", output)


def test_a_local_file_is_copied(tmp_path: Path, output: Path) -> None:
    (tmp_path / "source.pth").write_bytes(CONTENT)

    fetch.fetch(str(tmp_path / "source.pth"), output, SHA256[:8])

    assert output.read_bytes() == CONTENT


def test_a_local_file_with_another_hash_is_refused(tmp_path: Path, output: Path) -> None:
    (tmp_path / "source.pth").write_bytes(CONTENT + b"!")

    assert "expected" in refusal(str(tmp_path / "source.pth"), output, SHA256[:8])


def test_a_local_file_that_is_missing_is_named(tmp_path: Path, output: Path) -> None:
    assert "there is no such file" in refusal(str(tmp_path / "source.pth"), output)


def test_a_failed_fetch_leaves_the_old_file_as_it_was(url: str, output: Path) -> None:
    output.parent.mkdir()
    output.write_text("old")

    with pytest.raises(StageError):
        fetch.fetch(f"{url}/short", output)

    assert output.read_text() == "old"
