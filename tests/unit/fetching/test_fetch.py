"""A fetched file is the right one and whole, or it is not there; and the user is told why."""

import errno
import gzip
import hashlib
import os
import pty
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hrnetpose.fetching import fetch
from hrnetpose.fetching.transfer import RetryPolicy
from hrnetpose.stage import StageError
from server import NOT_THERE, Answer, Server

CONTENT = bytes(range(256)) * 12_000  # 3 MB
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WHOLE = Answer(CONTENT)
POLICY = RetryPolicy(attempts=3, timeout=20, backoff=0.01)
SHORT = RetryPolicy(attempts=3, timeout=1, backoff=0.01)
"""For servers that fall silent; a busy machine may be slower than that."""
FETCHED = {"weights.pth", ".weights.pth.sha256"}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "weights.pth"


def get(
    sources: str | list[str],
    output: Path,
    sha256: str = SHA256,
    size: int | None = None,
    policy: RetryPolicy = POLICY,
) -> None:
    """Fetch `CONTENT`."""
    found = fetch.fetch(
        [sources] if isinstance(sources, str) else sources, output, sha256, size, policy
    )
    assert found == SHA256
    assert output.read_bytes() == CONTENT
    assert set(left(output)) == FETCHED


def refusal(
    source: str,
    output: Path,
    sha256: str = SHA256,
    size: int | None = None,
    policy: RetryPolicy = POLICY,
) -> str:
    """What is said of a source that does not have the file."""
    with pytest.raises(StageError) as error:
        fetch.fetch([source], output, sha256, size, policy)
    said = str(error.value)
    assert said.startswith(f"{source.replace('me:secret@', '')}: ")
    assert f"; on a machine without internet, put the file at {output}" in said
    assert not output.exists()
    return said.partition("; on a machine")[0]


def left(output: Path) -> dict[str, int]:
    """What is in an output's folder, with its size."""
    return {path.name: path.stat().st_size for path in output.parent.iterdir()}


def partial(output: Path) -> Path:
    return output.with_name(f".{output.name}.partial")


@pytest.mark.parametrize("sha256", ["", SHA256[:8], SHA256])
def test_a_file_is_fetched_whole_and_nothing_else_is_left(
    server: Server, output: Path, sha256: str
) -> None:
    get(server.serve("/file", WHOLE), output, sha256, SIZE)


CUTS = {
    "before any header": -1,
    "before the first byte": 0,
    "after the first byte": 1,
    "in the middle": SIZE // 2,
    "before the last byte": SIZE - 1,
}


@pytest.mark.parametrize("ending", ["close", "reset", "stall"])
@pytest.mark.parametrize("place", CUTS)
def test_a_cut_transfer_is_resumed(server: Server, output: Path, place: str, ending: str) -> None:
    url = server.serve("/file", Answer(CONTENT, cut=CUTS[place], ending=ending), WHOLE)

    get(url, output, policy=SHORT if ending == "stall" else POLICY)

    first, second, *more = server.ranges("/file")
    assert first is None
    assert not more or ending == "stall"  # as a machine may be that stands still for a second
    if CUTS[place] > 1_000_000 and ending != "reset":  # a reset may drop what was on its way
        start = int(re.fullmatch(r"bytes=(\d+)-", second or "")[1])  # type: ignore[index]
        assert CUTS[place] - 70_000 < start <= CUTS[place]


DATE = {"Last-Modified": "Tue, 01 Sep 2020 00:00:00 GMT"}
WEAK = {"ETag": 'W/"1"'}
BROKEN = Answer(CONTENT, cut=65536 * 30)
PACKED = gzip.compress(CONTENT)
GZIP = {"Content-Encoding": "gzip"}


def part(start: int, status: int = 200, end: int = SIZE) -> Answer:
    """The end of the file, from a server that sends it in its own way."""
    span = {"Content-Range": f"bytes {start}-{end - 1}/{SIZE}"}
    return Answer(CONTENT[start:end], status=status, ranges=False, validators=False, headers=span)


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        # Without ranges, or without a word on what the file is, it is fetched from the start.
        ([Answer(CONTENT, ranges=False, cut=2_000_000), Answer(CONTENT, ranges=False)], "-r"),
        ([BROKEN, Answer(CONTENT, headers={"Content-Encoding": "identity"}, ranges=False)], "-r"),
        ([Answer(CONTENT, validators=False, cut=2_000_000), WHOLE], "--"),
        ([Answer(CONTENT, validators=False, headers=WEAK, cut=2_000_000), WHOLE], "--"),
        ([Answer(CONTENT, validators=False, headers=DATE, cut=2_000_000),
          Answer(CONTENT, validators=False, headers=DATE, conditions=False)], "-r"),
        # It is another file by then, and the server may not know If-Range.
        ([Answer(CONTENT[::-1], cut=2_000_000), WHOLE], "-r"),
        ([Answer(CONTENT[::-1], cut=2_000_000), Answer(CONTENT, conditions=False), WHOLE], "-r-"),
        ([Answer(CONTENT * 2, cut=SIZE + 9), Answer(CONTENT, conditions=False), WHOLE], "-r-"),
        # Parts that are called whole, wholes that are called parts, parts that nobody asked for.
        ([BROKEN, part(65536 * 30)], "-r"),
        ([BROKEN, part(65536 * 20), WHOLE], "-r-"),
        ([part(0)], "-"),
        ([BROKEN, part(5, status=206, end=9), WHOLE], "-r-"),
        ([BROKEN, part(65536 * 30, status=206, end=SIZE - 5), WHOLE], "-rr"),
        # Compressed, though it was asked not to be.
        ([Answer(PACKED, headers=GZIP, cut=len(PACKED) // 2), Answer(PACKED, headers=GZIP)], "--"),
    ],
)  # fmt: skip
def test_the_file_comes_whole_from_servers_of_all_kinds(
    server: Server, output: Path, answers: Sequence[Answer], asked: str
) -> None:
    """`asked` has a letter for each request: `r` for one with a range."""
    get(server.serve("/file", *answers), output, "")

    assert "".join("r" if asked else "-" for asked in server.ranges("/file")) == asked
    for _, headers in server.requests:
        known = {answers[0].etag, DATE["Last-Modified"]}
        assert ("range" in headers) == (headers.get("if-range") in known)


def test_cuts_with_progress_between_them_are_retried_without_end(
    server: Server, output: Path
) -> None:
    """3 MB in parts of a little more than a megabyte: more failures than attempts are allowed."""
    url = server.serve("/file", *[Answer(CONTENT, cut=1_200_000)] * 2, WHOLE)

    get(url, output, policy=RetryPolicy(attempts=2, timeout=20, backoff=0.01))

    assert server.asked("/file") == 3


def test_a_transfer_that_always_breaks_off_fails_and_can_be_resumed(
    server: Server, output: Path
) -> None:
    url = server.serve("/file", Answer(CONTENT, cut=500_000), Answer(CONTENT, cut=0))

    assert refusal(url, output) == f"{url}: the connection broke off (3 attempts)"

    assert 400_000 < left(output)[".weights.pth.partial"] <= 500_000
    server.serve("/file", WHOLE)
    get(url, output)
    assert server.ranges("/file")[-1] is not None


def test_a_web_page_in_between_does_not_cost_what_has_come(server: Server, output: Path) -> None:
    url = server.serve("/file", BROKEN, Answer(b"<html>log in"))
    assert "the server sent an HTML page" in refusal(url, output)

    server.serve("/file", WHOLE)
    get(url, output)

    assert server.ranges("/file")[-1] is not None


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_transient_status_is_retried(server: Server, output: Path, status: int) -> None:
    get(server.serve("/file", Answer(b"sorry", status=status), WHOLE), output)


@pytest.mark.parametrize("value", ["", "soon", "1m0s", "-5", "Tue, 01 Sep 2020 00:00:00 GMT"])
def test_an_odd_or_past_retry_after_is_ignored(server: Server, output: Path, value: str) -> None:
    trouble = Answer(b"", status=429, headers={"Retry-After": value})

    get(server.serve("/file", trouble, WHOLE), output)


def test_retry_after_is_honoured(server: Server, output: Path) -> None:
    trouble = Answer(b"", status=503, headers={"Retry-After": "1"})
    began = time.monotonic()

    get(server.serve("/file", trouble, WHOLE), output)

    assert time.monotonic() - began >= 1


def test_a_redirection_is_followed(server: Server, output: Path) -> None:
    server.serve("/file", BROKEN, WHOLE)

    get(server.serve("/moved", Answer(status=302, headers={"Location": "/file"})), output)

    assert server.ranges("/file")[1] is not None


def redirection(location: str) -> Answer:
    return Answer(status=302, headers={"Location": location})


PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Please\n log in</title></head></html>"


@pytest.mark.parametrize(
    ("answer", "says", "attempts"),
    [
        (Answer(b"sorry", status=500), "500 Internal Server Error (3 attempts)", 3),
        (NOT_THERE, "404 Not Found", 1),
        (Answer(b"<html>no", status=403), "403 Forbidden", 1),
        (Answer(status=204), "204 No Content", 1),
        (redirection("/file"), "Exceeded 30 redirects.", 31),
        (redirection("file:///etc/hostname"),
         "No connection adapters were found for 'file:///etc/hostname'", 1),
        (redirection("http://[bad"), "Invalid IPv6 URL", 1),
        (Answer(b"no gzip", headers=GZIP), "failed to decode it", 1),
        (Answer(PAGE),
         "the server sent an HTML page ('Please log in') in place of the file, as proxies and "
         "logins send it", 1),
        (Answer(CONTENT, length=SIZE + 9), "the connection broke off (3 attempts)", 3),
        (Answer(CONTENT, length=1000), f"the server offers 1000 bytes, expected {SIZE}", 1),
        (Answer(CONTENT * 2), f"the server offers {2 * SIZE} bytes, expected {SIZE}", 1),
        (Answer(CONTENT, length="none", cut=1000), f"expected {SHA256} (1000 bytes)", 1),
        (Answer(CONTENT[::-1]), f"sha256 is {hashlib.sha256(CONTENT[::-1]).hexdigest()}, ", 1),
    ],
)  # fmt: skip
def test_a_server_without_the_file_is_named_with_its_reason(
    server: Server, output: Path, answer: Answer, says: str, attempts: int
) -> None:
    size = None if answer.length == SIZE + 9 else SIZE

    said = refusal(server.serve("/file", answer), output, size=size)

    assert says in said
    assert server.asked("/file") == attempts
    assert not output.with_name(".weights.pth.sha256").exists()


def test_a_declared_size_is_compared_where_the_server_tells_none(
    server: Server, output: Path
) -> None:
    url = server.serve("/file", Answer(CONTENT, length="none", cut=1000))

    assert f"has 1000 bytes, expected {SIZE}; it was not kept" in refusal(url, output, "", SIZE)
    assert left(output) == {}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("http://127.0.0.1:1/file", "Connection refused (3 attempts)"),
        ("http://host.invalid/file", "{unknown} (3 attempts)"),
        ("http://me:secret@127.0.0.1:{port}/gone", "404 Not Found"),
        ("https://127.0.0.1:{port}/file", "no secure connection: [SSL: "),
        ("ftp://me:secret@127.0.0.1/weights.pth", "No connection adapters"),
        ("{folder}/gone.pth", "cannot be copied: No such file or directory"),
        ("file://{folder}/gone.pth", "cannot be copied: No such file or directory"),
        ("{folder}/other.pth", f"expected {SHA256} (5 bytes); it was not kept"),
        ("{folder}/page.pth", "it is an HTML page"),
    ],
)
def test_a_source_without_the_file_is_named_with_its_reason(
    server: Server, output: Path, tmp_path: Path, source: str, says: str
) -> None:
    (tmp_path / "other.pth").write_text("other")
    (tmp_path / "page.pth").write_bytes(PAGE)
    says = says.replace("{unknown}", resolver_says("host.invalid"))

    said = refusal(source.format(port=server.url.rpartition(":")[2], folder=tmp_path), output)

    assert says in said
    assert "secret" not in said
    assert ("attempts" in said) == ("attempts" in says)
    assert left(output) == {}


def resolver_says(host: str) -> str:
    """What this machine says of a name that nobody has; without a network it is another word."""
    with pytest.raises(socket.gaierror) as error:
        socket.getaddrinfo(host, 80)
    return str(error.value.strerror)


def test_a_silent_server_is_named(server: Server, output: Path) -> None:
    url = server.serve("/file", Answer(CONTENT, cut=-1, ending="stall"))

    assert "no answer for 1 s (3 attempts)" in refusal(url, output, policy=SHORT)


def test_a_slow_server_may_take_longer_than_the_timeout(server: Server, output: Path) -> None:
    """3.5 seconds in all, and it may be silent for three."""
    policy = replace(POLICY, timeout=3)

    get(server.serve("/file", Answer(CONTENT, pause=0.35)), output, policy=policy)

    assert server.asked("/file") == 1


def test_a_zip_without_a_hash_is_read_before_it_is_trusted(server: Server, tmp_path: Path) -> None:
    path, output = tmp_path / "made.zip", tmp_path / "images" / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", CONTENT)
    damaged = bytearray(path.read_bytes())
    damaged[1_000_000] ^= 1

    said = refusal(server.serve("/images.zip", Answer(bytes(damaged))), output, "")

    assert "the zip: member a.jpg is damaged: Bad CRC-32" in said
    assert left(output) == {}
    said = refusal(server.serve("/images.zip", Answer(bytes(damaged[:-30]))), output, "")
    assert "the zip: not a whole zip" in said


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, 524])
def test_a_file_system_without_locks_will_do(
    server: Server, output: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """NFS without its lock daemon, Lustre without flock, and autofs answer so."""

    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)

    get(server.serve("/file", BROKEN, WHOLE), output)


def test_mirrors_are_tried_in_order(server: Server, output: Path) -> None:
    """What came from one is not taken for the beginning of another's file."""
    dated = Answer(CONTENT, validators=False, headers=DATE)
    sources = [
        server.serve("/cut", replace(dated, content=CONTENT[::-1], cut=2_000_000), NOT_THERE),
        server.serve("/dated", replace(dated, cut=2_000_000), NOT_THERE),
        server.serve("/gone"),
        server.serve("/other", Answer(CONTENT[::-1])),
        str(output.parent / "missing.pth"),
        server.serve("/right", WHOLE),
        server.serve("/never", WHOLE),
    ]

    get(sources, output)

    asked = ["/cut", "/cut", "/dated", "/dated", "/gone", "/other", "/right"]
    assert [path for path, _ in server.requests] == asked
    assert server.ranges("/dated")[0] is None


@pytest.mark.parametrize("otherwise", ["", "evaluate with ground-truth boxes"])
def test_each_mirror_that_failed_is_listed_with_what_to_do(
    server: Server, output: Path, otherwise: str
) -> None:
    sources = [server.serve("/gone"), server.serve("/other", Answer(b"other"))]

    with pytest.raises(StageError) as error:
        fetch.fetch(sources, output, SHA256, otherwise=otherwise)

    assert str(error.value) == (
        f"{sources[0]}: 404 Not Found; on a machine without internet, put the file at {output} "
        f"(sha256 {SHA256}) by hand" + (f", or {otherwise}" if otherwise else "")
    )
    assert [line.partition(": ")[0] for line in error.value.details] == sources
    assert "sha256 is" in error.value.details[1]


def test_a_file_without_a_source_is_asked_for(output: Path) -> None:
    with pytest.raises(StageError, match="names no source; on a machine without internet, put "):
        fetch.fetch([], output)


def test_proxies_of_the_environment_are_used(
    server: Server, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.serve("/zips/val2017.zip", WHOLE)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("https_proxy", server.url)

    said = refusal("https://images.host.invalid/zips/val2017.zip", output)
    get("http://images.host.invalid/zips/val2017.zip", output)

    assert "Tunnel connection failed: 501 Unsupported method" in said
    assert server.requests[0][1]["host"] == "images.host.invalid"


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_a_local_file_is_copied(tmp_path: Path, output: Path, form: str) -> None:
    (tmp_path / "my source.pth").write_bytes(CONTENT)
    name = str(tmp_path / "my source.pth")

    get(form.format(name if form == "{}" else name.replace(" ", "%20")), output)


def test_a_file_that_is_there_with_the_right_hash_is_used(server: Server, output: Path) -> None:
    get(server.serve("/file", WHOLE), output)
    before = output.stat()

    get(server.serve("/file"), output, SHA256[:8])

    assert server.asked("/file") == 1
    assert output.stat() == before


def test_a_failed_fetch_leaves_the_old_file_as_it_was(server: Server, output: Path) -> None:
    output.parent.mkdir()
    output.write_text("old")

    with pytest.raises(StageError):
        get(server.serve("/file", Answer(CONTENT, ranges=False, cut=1_500_000)), output)

    assert output.read_text() == "old"


def test_a_full_disk_is_named_before_the_transfer(
    server: Server, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 1_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)

    with pytest.raises(StageError, match="3 MB are needed and 1 MB are free; make room"):
        get(server.serve("/file", WHOLE), output)

    assert left(output) == {}


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(repository: Path, tmp_path: Path, output: Path, server: Server) -> Iterator[Start]:
    """Start `fetch_file.py` as a process of its own."""
    processes = []

    def start(url: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        script = repository / "workflow_scripts" / "fetch_file.py"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, script, "--source", url, "--output", output, *map(str, arguments)],
            cwd=tmp_path, text=True, **pipes | options,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen within a minute")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_transfer_is_resumed(
    server: Server, output: Path, start: Start, number: int
) -> None:
    url = server.serve("/file", Answer(CONTENT, cut=2_000_000, ending="stall"), WHOLE)
    killed = start(url)
    wait_for(lambda: partial(output).exists() and partial(output).stat().st_size > 1_900_000)
    killed.send_signal(number)
    killed.wait()
    locked = {".weights.pth.lock"} if number == signal.SIGKILL else set()
    assert left(output).keys() == {".weights.pth.partial", ".weights.pth.partial.json"} | locked
    there = partial(output).stat().st_size

    get(url, output)

    assert server.ranges("/file") == [None, f"bytes={there}-"]


def test_a_transfer_that_was_killed_before_the_check_is_not_repeated(
    server: Server, output: Path, start: Start
) -> None:
    url = server.serve("/file", Answer(CONTENT, cut=2_000_000), Answer(b"", status=404))
    refusal(url, output)
    with partial(output).open("ab") as file:
        file.write(CONTENT[file.tell() :])

    get(url, output)

    assert server.asked("/file") == 2


def test_a_disk_that_fills_up_is_named_and_what_came_is_kept(
    server: Server, output: Path, start: Start
) -> None:
    url = server.serve("/file", WHOLE)

    failed = start(
        url, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    )

    assert failed.communicate()[1].splitlines()[-1] == (
        f"fetch_file: error: {partial(output)}: File too large; make room and run again"
    )
    assert partial(output).stat().st_size == 1_000_000
    get(url, output)
    assert server.ranges("/file") == [None, "bytes=1000000-"]


def wait_until_waiting(process: subprocess.Popen[str]) -> None:
    assert process.stderr
    assert "another process is fetching it; waiting" in process.stderr.readline()


def test_processes_fetch_a_file_once(server: Server, output: Path, start: Start) -> None:
    """The first one fails, the second one fetches, and the others take what it has fetched."""
    held = Answer(CONTENT, cut=1_000_000, ending="stall")
    url = server.serve("/file", Answer(cut=-1, ending="stall"), held, WHOLE)
    first = start(url, "--timeout", 600, "--attempts", 1)
    wait_for(lambda: server.asked("/file") == 1)
    second = start(url, "--timeout", 600)
    wait_until_waiting(second)
    server.release()
    assert first.wait() == 1
    wait_for(lambda: server.asked("/file") == 2)
    others = [start(url) for _ in range(2)]
    for process in others:
        wait_until_waiting(process)
    server.release()

    assert [process.wait() for process in (second, *others)] == [0, 0, 0]

    assert output.read_bytes() == CONTENT
    assert server.asked("/file") == 3  # the first one's, the cut one and its end
    assert set(left(output)) == FETCHED


def test_a_failure_is_one_line_and_the_log_has_the_rest(
    server: Server, output: Path, start: Start, tmp_path: Path
) -> None:
    url = server.serve("/file", Answer(b"", status=503), NOT_THERE)

    failed = start(url, "--log", "fetch.log", "--backoff", "0.01")

    assert failed.communicate() == (
        "",
        f"fetch_file: error: {url}: 404 Not Found; on a machine without internet, put the file at "
        f"{output} by hand\n",
    )
    assert failed.returncode == 1
    log = (tmp_path / "fetch.log").read_text()
    assert f"{url}: 503 Service Unavailable; trying again" in log
    assert "Traceback" in log


def test_a_log_has_a_few_sober_lines(
    server: Server, output: Path, start: Start, tmp_path: Path
) -> None:
    url = server.serve("/file", WHOLE)

    assert start(url, "--log", "fetch.log").communicate() == ("", "")

    first, second, last = (tmp_path / "fetch.log").read_text().splitlines()
    assert re.fullmatch(
        r"weights\.pth: 3\.1/3\.1 MB, [0-9.]+ (GB|MB|kB)/s, 100%, 0:00:00", first
    )  # fmt: skip
    assert second == f"{output}: from {url}, sha256 {SHA256}"
    assert last.startswith("finished ")


def test_a_terminal_shows_a_bar_with_rate_and_time_left(
    server: Server, output: Path, start: Start
) -> None:
    url = server.serve("/file", Answer(CONTENT, cut=2_000_000, ending="stall"), WHOLE)
    terminal, other_end = pty.openpty()
    kind = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = start(url, "--log", "fetch.log", "--timeout", 1, stderr=other_end, env=kind)
    os.close(other_end)
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # the process has gone
            break
    os.close(terminal)

    assert process.wait() == 0
    assert re.search(rb"2\.0/3\.1 MB", shown)
    assert re.search(rb"(bytes|[kMG]B)/s", shown)
    assert re.search(rb"\d:\d\d:\d\d", shown)
