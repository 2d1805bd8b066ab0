"""A fetched file is the right one and whole, or it is not there; and the user is told why."""

import errno
import gzip
import hashlib
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hrnetpose.fetching import fetch
from hrnetpose.fetching.transfer import RetryPolicy
from hrnetpose.stage import StageError
from server import Answer, Server

CONTENT = bytes(range(256)) * 12_000  # 3 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WHOLE = Answer(CONTENT)
POLICY = RetryPolicy(attempts=3, timeout=20, backoff=0.01)
SHORT = RetryPolicy(attempts=3, timeout=1, backoff=0.01)
"""For servers that fall silent; a busy machine may be slower than that."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        yield server


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "weights.pth"


def get(
    source: str | list[str],
    output: Path,
    sha256: str = SHA256,
    size: int | None = None,
    policy: RetryPolicy = POLICY,
) -> str:
    sources = [source] if isinstance(source, str) else source
    return fetch.fetch(sources, output, sha256, size, policy)


def refusal(
    source: str,
    output: Path,
    sha256: str = SHA256,
    size: int | None = None,
    policy: RetryPolicy = POLICY,
) -> str:
    with pytest.raises(StageError) as error:
        get(source, output, sha256, size, policy)
    assert str(error.value).startswith(f"{source}: ")
    assert f"put the file at {output}" in str(error.value)
    assert not output.exists()
    return str(error.value)


def left(output: Path) -> dict[str, int]:
    """What is in an output's folder, with its size."""
    return {path.name: path.stat().st_size for path in output.parent.iterdir()}


def partial(output: Path) -> Path:
    return output.with_name(f".{output.name}.partial")


@pytest.mark.parametrize("sha256", ["", SHA256[:8], SHA256])
def test_a_file_is_fetched_whole_and_nothing_else_is_left(
    server: Server, output: Path, sha256: str
) -> None:
    assert get(server.serve("/file", WHOLE), output, sha256) == SHA256

    assert output.read_bytes() == CONTENT
    assert left(output).keys() == {"weights.pth", ".weights.pth.sha256"}


CUTS = {
    "before any header": -1,
    "before the first byte": 0,
    "after the first byte": 1,
    "in the middle": len(CONTENT) // 2,
    "before the last byte": len(CONTENT) - 1,
}


@pytest.mark.parametrize("ending", ["close", "reset", "stall"])
@pytest.mark.parametrize("place", CUTS)
def test_a_cut_transfer_is_resumed(server: Server, output: Path, place: str, ending: str) -> None:
    url = server.serve("/file", Answer(CONTENT, cut=CUTS[place], ending=ending), WHOLE)

    get(url, output, policy=SHORT if ending == "stall" else POLICY)

    assert output.read_bytes() == CONTENT
    first, second = server.ranges("/file")
    assert first is None
    if CUTS[place] > 1_000_000 and ending != "reset":  # a reset may drop what was on its way
        start = int(re.fullmatch(r"bytes=(\d+)-", second or "")[1])  # type: ignore[index]
        assert CUTS[place] - 70_000 < start <= CUTS[place]


def test_cuts_with_progress_between_them_are_retried_without_end(
    server: Server, output: Path
) -> None:
    """3 MB in parts of a little more than a megabyte: more failures than attempts are allowed."""
    url = server.serve("/file", *[Answer(CONTENT, cut=1_200_000)] * 2, WHOLE)

    fetch.fetch([url], output, SHA256, policy=RetryPolicy(attempts=1 + 1, timeout=20, backoff=0.01))

    assert output.read_bytes() == CONTENT
    assert server.asked("/file") == 3


def test_a_transfer_that_always_breaks_off_fails_and_can_be_resumed(
    server: Server, output: Path
) -> None:
    url = server.serve("/file", Answer(CONTENT, cut=500_000), Answer(CONTENT, cut=0))

    said = refusal(url, output)

    assert "the connection broke off" in said
    assert "(3 attempts)" in said
    assert 400_000 < left(output)[".weights.pth.partial"] <= 500_000
    server.serve("/file", WHOLE)
    get(url, output)
    assert output.read_bytes() == CONTENT
    assert server.ranges("/file")[-1] is not None
    assert left(output).keys() == {"weights.pth", ".weights.pth.sha256"}


@pytest.mark.parametrize(
    "later",
    [
        Answer(CONTENT, ranges=False),
        Answer(CONTENT, headers={"Content-Encoding": "identity"}, ranges=False),
    ],
)
def test_a_server_without_ranges_is_asked_for_everything_again(
    server: Server, output: Path, later: Answer
) -> None:
    url = server.serve("/file", Answer(CONTENT, ranges=False, cut=2_000_000), later)

    get(url, output)

    assert output.read_bytes() == CONTENT


def test_what_a_server_says_nothing_about_is_fetched_from_the_start(
    server: Server, output: Path
) -> None:
    first = Answer(CONTENT, validators=False, cut=2_000_000)
    url = server.serve("/file", first, Answer(CONTENT, validators=False))

    get(url, output)

    assert output.read_bytes() == CONTENT
    assert server.ranges("/file") == [None, None]


def test_a_modification_date_serves_where_there_is_no_tag(server: Server, output: Path) -> None:
    date = {"Last-Modified": "Tue, 01 Sep 2020 00:00:00 GMT"}
    first = Answer(CONTENT, validators=False, headers=date, cut=2_000_000)
    later = Answer(CONTENT, validators=False, headers=date, conditions=False)
    url = server.serve("/file", first, later)

    get(url, output)

    assert output.read_bytes() == CONTENT
    assert server.ranges("/file")[1] is not None
    assert server.requests[1][1]["if-range"] == date["Last-Modified"]


@pytest.mark.parametrize("conditions", [True, False])
def test_a_file_that_changes_between_attempts_is_fetched_from_the_start(
    server: Server, output: Path, conditions: bool
) -> None:
    old = Answer(CONTENT[::-1], cut=2_000_000)
    url = server.serve("/file", old, Answer(CONTENT, conditions=conditions))

    get(url, output)

    assert output.read_bytes() == CONTENT


def test_a_file_that_has_become_shorter_is_fetched_from_the_start(
    server: Server, output: Path
) -> None:
    old = Answer(CONTENT * 2, cut=len(CONTENT) + 1_000_000)
    url = server.serve("/file", old, Answer(CONTENT, conditions=False))

    get(url, output)

    assert output.read_bytes() == CONTENT


@pytest.mark.parametrize("start", [65536 * 30, 65536 * 20])
def test_a_part_that_is_sent_as_200_is_taken_for_what_it_is(
    server: Server, output: Path, start: int
) -> None:
    """The part that was asked for, and one that begins before it."""
    end = len(CONTENT)
    headers = {"Content-Range": f"bytes {start}-{end - 1}/{end}"}
    part = Answer(CONTENT[start:], ranges=False, validators=False, headers=headers)
    url = server.serve("/file", Answer(CONTENT, cut=65536 * 30), part, WHOLE)

    get(url, output, "")

    assert output.read_bytes() == CONTENT
    assert server.ranges("/file")[1] == f"bytes={65536 * 30}-"
    assert server.asked("/file") == (2 if start == 65536 * 30 else 3)


def test_a_whole_file_that_is_called_a_part_is_taken(server: Server, output: Path) -> None:
    headers = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
    url = server.serve("/file", Answer(CONTENT, headers=headers))

    get(url, output)

    assert server.asked("/file") == 1


def test_a_range_that_was_not_asked_for_is_not_taken(server: Server, output: Path) -> None:
    odd = Answer(CONTENT, status=206, headers={"Content-Range": f"bytes 5-9/{len(CONTENT)}"})
    url = server.serve("/file", Answer(CONTENT, cut=2_000_000), odd, WHOLE)

    get(url, output)

    assert output.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_transient_status_is_retried(server: Server, output: Path, status: int) -> None:
    url = server.serve("/file", Answer(b"sorry", status=status), WHOLE)

    get(url, output)

    assert output.read_bytes() == CONTENT


def test_retry_after_is_honoured(server: Server, output: Path) -> None:
    headers = {"Retry-After": "1"}
    url = server.serve("/file", Answer(b"", status=503, headers=headers), WHOLE)
    began = time.monotonic()

    get(url, output)

    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("value", ["", "soon", "1m0s", "-5", "Tue, 01 Sep 2020 00:00:00 GMT"])
def test_an_odd_or_past_retry_after_is_ignored(server: Server, output: Path, value: str) -> None:
    trouble = Answer(b"", status=429, headers={"Retry-After": value})

    get(server.serve("/file", trouble, WHOLE), output)

    assert output.read_bytes() == CONTENT


def test_a_status_that_stays_is_reported_with_the_attempts(server: Server, output: Path) -> None:
    said = refusal(server.serve("/file", Answer(b"sorry", status=500)), output)

    assert ": 500 Internal Server Error (3 attempts); on a machine without internet, " in said
    assert f"(sha256 {SHA256}) by hand" in said
    assert left(output) == {}


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "404 Not Found"), (403, "403 Forbidden"), (410, "410 Gone")]
)
def test_a_missing_file_is_not_retried(
    server: Server, output: Path, status: int, reason: str
) -> None:
    said = refusal(server.serve("/file", Answer(b"<html>no", status=status)), output)

    assert f": {reason}; " in said
    assert server.asked("/file") == 1
    assert left(output) == {}


def test_a_redirection_is_followed(server: Server, output: Path) -> None:
    server.serve("/file", Answer(CONTENT, cut=2_000_000), WHOLE)
    url = server.serve("/moved", Answer(status=302, headers={"Location": "/file"}))

    get(url, output)

    assert output.read_bytes() == CONTENT
    assert server.ranges("/file")[1] is not None


def test_a_loop_of_redirections_ends(server: Server, output: Path) -> None:
    said = refusal(server.serve("/file", Answer(status=302, headers={"Location": "/file"})), output)

    assert "Exceeded 30 redirects" in said
    assert left(output) == {}


def test_a_redirection_to_this_machine_is_refused(server: Server, output: Path) -> None:
    location = {"Location": "file:///etc/hostname"}

    said = refusal(server.serve("/file", Answer(status=302, headers=location)), output)

    assert "No connection adapters were found for 'file:///etc/hostname'" in said


def test_a_declared_length_that_is_too_long_is_a_cut(server: Server, output: Path) -> None:
    said = refusal(server.serve("/file", Answer(CONTENT, length=len(CONTENT) + 9)), output)

    assert "broke off" in said


def test_a_declared_length_that_is_too_short_is_another_file(server: Server, output: Path) -> None:
    said = refusal(server.serve("/file", Answer(CONTENT, length=1000)), output)

    found = hashlib.sha256(CONTENT[:1000]).hexdigest()
    assert f"sha256 is {found}, expected {SHA256} (1000 bytes)" in said
    assert left(output) == {}


def test_a_server_that_declares_no_length_is_checked_by_size_or_hash(
    server: Server, output: Path
) -> None:
    url = server.serve("/file", Answer(CONTENT, length="none", cut=1000), WHOLE)
    assert "has 1000 bytes, expected 3072000" in refusal(url, output, "", len(CONTENT))

    server.serve("/file", Answer(CONTENT, length="none"))
    get(url, output, "", len(CONTENT))
    assert output.read_bytes() == CONTENT


def test_a_file_of_another_size_is_refused_before_it_is_fetched(
    server: Server, output: Path
) -> None:
    said = refusal(server.serve("/file", WHOLE), output, size=123)

    assert f"the server offers {len(CONTENT)} bytes, expected 123" in said
    assert left(output) == {}


def test_another_file_is_deleted_and_both_hashes_are_named(server: Server, output: Path) -> None:
    said = refusal(server.serve("/file", WHOLE), output, "c78dce93")

    assert f"sha256 is {SHA256}, expected c78dce93" in said
    assert "was deleted" in said
    assert left(output) == {}


PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Please\n log in</title></head></html>"


@pytest.mark.parametrize("sha256", ["", SHA256])
def test_a_web_page_in_place_of_the_file_is_recognised(
    server: Server, tmp_path: Path, sha256: str
) -> None:
    output = tmp_path / "images" / "val2017.zip"

    said = refusal(server.serve("/val2017.zip", Answer(PAGE)), output, sha256)

    assert "the server sent an HTML page ('Please log in') in place of the file" in said
    assert left(output) == {}


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


def test_a_refused_connection_is_named(server: Server, output: Path) -> None:
    with Server() as other:
        url = f"{other.url}/file"

    assert ": connection refused (3 attempts); " in refusal(url, output)
    assert left(output) == {}


def test_a_host_without_an_address_is_named(output: Path, server: Server) -> None:
    said = refusal("http://host.invalid/file", output)

    assert "the host's name cannot be resolved" in said


def test_a_connection_that_is_not_secure_is_refused_at_once(server: Server, output: Path) -> None:
    url = server.serve("/file", WHOLE).replace("http://", "https://")

    said = refusal(url, output)

    assert ": no secure connection: " in said
    assert "attempts" not in said


def test_a_transfer_that_is_compressed_unasked_is_unpacked(server: Server, output: Path) -> None:
    packed = gzip.compress(CONTENT)
    headers = {"Content-Encoding": "gzip"}
    first = Answer(packed, headers=headers, cut=len(packed) // 2)
    url = server.serve("/file", first, Answer(packed, headers=headers))

    get(url, output)

    assert output.read_bytes() == CONTENT
    assert server.ranges("/file") == [None, None]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, 524])
def test_a_file_system_without_locks_will_do(
    server: Server, output: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """NFS without its lock daemon, Lustre without flock, and autofs answer so."""

    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)

    get(server.serve("/file", Answer(CONTENT, cut=1_500_000), WHOLE), output)

    assert output.read_bytes() == CONTENT
    assert left(output).keys() == {"weights.pth", ".weights.pth.sha256"}


def test_a_silent_server_is_named(server: Server, output: Path) -> None:
    url = server.serve("/file", Answer(CONTENT, cut=-1, ending="stall"))

    assert "no answer for 1 s (3 attempts)" in refusal(url, output, policy=SHORT)


def test_a_slow_server_may_take_longer_than_the_timeout(server: Server, output: Path) -> None:
    """1.5 seconds in all, and it may be silent for one."""
    get(server.serve("/file", Answer(CONTENT, pause=0.15)), output, policy=SHORT)

    assert output.read_bytes() == CONTENT
    assert server.asked("/file") == 1


def test_an_address_of_another_kind_is_refused(output: Path) -> None:
    assert "No connection adapters" in refusal("ftp://127.0.0.1/weights.pth", output)


def test_a_password_is_not_shown(server: Server, output: Path) -> None:
    url = server.serve("/file").replace("http://", "http://me:secret@")

    with pytest.raises(StageError) as error:
        get(url, output)

    assert "404" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_password_is_not_shown_in_an_address_of_another_kind(output: Path) -> None:
    with pytest.raises(StageError) as error:
        get("ftp://me:secret@127.0.0.1/weights.pth", output)

    assert "No connection adapters" in str(error.value)
    assert "secret" not in str(error.value)


def test_mirrors_are_tried_in_order(server: Server, output: Path) -> None:
    sources = [
        server.serve("/gone", Answer(b"", status=404)),
        server.serve("/other", Answer(CONTENT[::-1])),
        str(output.parent / "missing.pth"),
        server.serve("/right", WHOLE),
        server.serve("/never", WHOLE),
    ]

    get(sources, output)

    assert output.read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/gone", "/other", "/right"]


def test_each_mirror_that_failed_is_listed(server: Server, output: Path) -> None:
    sources = [server.serve("/gone"), server.serve("/other", Answer(b"other"))]

    with pytest.raises(StageError) as error:
        get(sources, output)

    assert str(error.value).startswith(f"{sources[0]}: 404 Not Found; on a machine without ")
    assert [line.partition(": ")[0] for line in error.value.details] == sources
    assert "sha256 is" in error.value.details[1]


def test_a_file_without_a_source_is_asked_for(output: Path) -> None:
    with pytest.raises(StageError, match="names no source; on a machine without internet, put "):
        get([], output)


def test_what_can_be_done_without_the_file_is_said(server: Server, output: Path) -> None:
    with pytest.raises(StageError, match=r"by hand, or evaluate with ground-truth boxes$"):
        fetch.fetch([server.serve("/gone")], output, otherwise="evaluate with ground-truth boxes")


def test_a_proxy_of_the_environment_is_used(
    server: Server, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.serve("/zips/val2017.zip", WHOLE)
    monkeypatch.setenv("http_proxy", server.url)

    get("http://images.host.invalid/zips/val2017.zip", output)

    assert output.read_bytes() == CONTENT
    assert server.requests[0][1]["host"] == "images.host.invalid"


def test_a_proxy_that_refuses_is_named(
    server: Server, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", server.url)

    said = refusal("https://images.host.invalid/zips/val2017.zip", output)

    assert "the proxy refuses: 501 Unsupported method" in said


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_a_local_file_is_copied(tmp_path: Path, output: Path, form: str) -> None:
    (tmp_path / "my source.pth").write_bytes(CONTENT)
    name = str(tmp_path / "my source.pth")

    get(form.format(name if form == "{}" else name.replace(" ", "%20")), output)

    assert output.read_bytes() == CONTENT
    assert left(output).keys() == {"weights.pth", ".weights.pth.sha256"}


def test_a_local_file_with_another_hash_is_refused(tmp_path: Path, output: Path) -> None:
    (tmp_path / "source.pth").write_bytes(CONTENT + b"!")

    assert "expected" in refusal(str(tmp_path / "source.pth"), output)
    assert left(output) == {}


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_local_file_that_is_missing_is_named(tmp_path: Path, output: Path, form: str) -> None:
    assert "there is no such file" in refusal(form.format(tmp_path / "source.pth"), output)


def test_a_file_that_is_there_with_the_right_hash_is_used(server: Server, output: Path) -> None:
    output.parent.mkdir()
    output.write_bytes(CONTENT)
    before = output.stat()

    assert get(server.serve("/file"), output, SHA256[:8]) == SHA256

    assert server.requests == []
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
def start(repository: Path, tmp_path: Path, server: Server) -> Iterator[Start]:
    """Starts `fetch_file.py` as a process of its own."""
    processes = []

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        script = repository / "workflow_scripts" / "fetch_file.py"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
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
    arguments = ("--source", url, "--sha256", SHA256, "--output", output)
    killed = start(*arguments)
    wait_for(lambda: partial(output).exists() and partial(output).stat().st_size > 1_900_000)
    killed.send_signal(number)
    killed.wait()
    locked = {".weights.pth.lock"} if number == signal.SIGKILL else set()
    assert left(output).keys() == {".weights.pth.partial", ".weights.pth.partial.json"} | locked
    there = partial(output).stat().st_size

    assert start(*arguments).wait() == 0

    assert output.read_bytes() == CONTENT
    assert server.ranges("/file") == [None, f"bytes={there}-"]
    assert left(output).keys() == {"weights.pth", ".weights.pth.sha256"}


def test_a_disk_that_fills_up_is_named_and_what_came_is_kept(
    server: Server, output: Path, start: Start
) -> None:
    arguments = ("--source", server.serve("/file", WHOLE), "--output", output)

    failed = start(
        *arguments,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )

    assert failed.communicate()[1].splitlines()[-1] == (
        f"fetch_file: error: {partial(output)}: File too large; make room and run again"
    )
    assert partial(output).stat().st_size == 1_000_000
    assert start(*arguments).wait() == 0
    assert output.read_bytes() == CONTENT
    assert server.ranges("/file") == [None, "bytes=1000000-"]


def wait_until_waiting(process: subprocess.Popen[str]) -> None:
    assert process.stderr
    assert "another process is fetching it; waiting" in process.stderr.readline()


def test_two_processes_fetch_a_file_once(server: Server, output: Path, start: Start) -> None:
    held = Answer(CONTENT, cut=1_000_000, ending="stall")
    url = server.serve("/file", held, WHOLE)
    arguments = ("--source", url, "--output", output)
    first = start(*arguments)
    wait_for(lambda: server.asked("/file") == 1)
    others = [start(*arguments) for _ in range(3)]
    for process in others:
        wait_until_waiting(process)
    server.release()

    assert [process.wait() for process in (first, *others)] == [0, 0, 0, 0]

    assert output.read_bytes() == CONTENT
    assert server.asked("/file") == 2  # the cut one and its end
    assert left(output).keys() == {"weights.pth", ".weights.pth.sha256"}


def test_after_a_failure_one_of_the_waiting_processes_fetches(
    server: Server, output: Path, start: Start
) -> None:
    held = Answer(CONTENT, cut=1_000_000, ending="stall")
    url = server.serve("/file", Answer(cut=-1, ending="stall"), held, WHOLE)
    arguments = ("--source", url, "--output", output)
    first = start(*arguments, "--timeout", 2, "--attempts", 1)
    wait_for(lambda: server.asked("/file") == 1)
    second = start(*arguments)
    assert first.wait() == 1
    wait_for(lambda: server.asked("/file") == 2)
    third = start(*arguments)
    wait_until_waiting(third)
    server.release()

    assert (second.wait(), third.wait()) == (0, 0)

    assert output.read_bytes() == CONTENT
    assert server.asked("/file") == 3


def test_a_reader_never_sees_a_part(server: Server, output: Path) -> None:
    url = server.serve("/file", *[Answer(CONTENT, cut=1_100_000)] * 2, WHOLE)
    seen: set[int] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            if output.exists():
                seen.add(len(output.read_bytes()))

    reader = threading.Thread(target=read)
    reader.start()
    get(url, output)
    time.sleep(0.05)
    over.set()
    reader.join()

    assert seen == {len(CONTENT)}


def test_a_failure_is_one_line_and_the_log_has_the_rest(
    server: Server, output: Path, start: Start, tmp_path: Path
) -> None:
    url = server.serve("/file", Answer(b"", status=503), Answer(b"", status=404))

    failed = start(
        "--source", url, "--output", output, "--log", "fetch.log", "--backoff", "0.01"
    )  # fmt: skip
    printed = failed.communicate()

    assert failed.returncode == 1
    assert printed[0] == ""
    assert printed[1] == (
        f"fetch_file: error: {url}: 404 Not Found; on a machine without internet, put the file at "
        f"{output} by hand\n"
    )
    log = (tmp_path / "fetch.log").read_text()
    assert f"{url}: 503 Service Unavailable; trying again" in log
    assert "Traceback" in log


def test_a_log_has_a_few_sober_lines(
    server: Server, output: Path, start: Start, tmp_path: Path
) -> None:
    url = server.serve("/file", WHOLE)

    done = start("--source", url, "--sha256", SHA256, "--output", output, "--log", "fetch.log")

    assert done.communicate() == ("", "")
    first, second = (tmp_path / "fetch.log").read_text().splitlines()
    assert re.fullmatch(r"file: 3\.1 MB of 3\.1 MB, 100%, [0-9.]+ (GB|MB|kB)/s", first)
    assert second == f"{output}: from {url}, sha256 {SHA256}"


def test_a_terminal_shows_a_bar_with_rate_and_time_left(
    server: Server, output: Path, start: Start
) -> None:
    url = server.serve("/file", Answer(CONTENT, cut=2_000_000, ending="stall"), WHOLE)
    terminal, other_end = pty.openpty()
    process = start(
        "--source", url, "--output", output, "--log", "fetch.log", "--timeout", 1,
        stderr=other_end,
    )  # fmt: skip
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
