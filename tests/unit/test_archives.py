"""Archives that could do harm are refused, and damaged ones are named."""

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from hrnetpose import archives
from hrnetpose.data.images import ImageStore
from hrnetpose.stage import StageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "annotations.zip"


def write(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)


def refusal(path: Path) -> str:
    """What is said of an archive, whoever opens it; nothing is written."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(StageError) as error:
        archives.extract(path, "a.json", path.parent / "out" / "a.json")
    said = str(error.value)
    assert said.startswith(f"{path}: ")
    with pytest.raises(StageError) as error:
        archives.check_content(path)
    assert str(error.value) == said
    with pytest.raises(StageError) as error:
        ImageStore(path)
    assert str(error.value) == said
    assert sorted(path.parent.rglob("*")) == before
    return said


def special(kind: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("link.jpg")
    member.external_attr = (kind | 0o777) << 16
    return member


HARMLESS = ("a.json", b"{}")
OUTSIDE = (
    "../a.json", "x/../../a.json", "/etc/a.json", "..\\a.json", "C:\\a.json", "C:a.json", "\\a",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "says"),
    [
        *(([HARMLESS, (name, b"evil")], f"member {name!r} would leave the folder")
          for name in OUTSIDE),
        *(([HARMLESS, (special(kind), b"/etc/passwd")],
           "member 'link.jpg' is a link or a device, not a file")
          for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO)),
        ([HARMLESS, HARMLESS], "member 'a.json' is there twice"),
        ([("x/a.json", b"{}"), ("x//a.json", b"[]")], "member 'x/a.json' is there twice"),
        ([("a.json", bytes(archives.SMALL + 1))], f"to {archives.SMALL + 1} bytes, as a zip bomb"),
        ([(f"{number}.json", bytes(1 << 20)) for number in range(20)], "as a zip bomb"),
    ],
)  # fmt: skip
def test_a_member_that_could_do_harm_is_refused(path: Path, members: list, says: str) -> None:
    write(path, *members)

    assert f"{says}; the zip is refused" in refusal(path)


def test_members_that_share_their_data_are_refused(path: Path) -> None:
    """The directory names the same bytes under many names."""
    content = bytes(range(256)) * 64
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a000", content)
    data = file.getvalue()
    start = data.index(b"PK\1\2")
    entry = data[start : data.index(b"PK\5\6")]
    entries = b"".join(entry.replace(b"a000", b"a%03d" % number) for number in range(10))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 10, 10, len(entries), start, 0)
    path.write_bytes(data[:start] + entries + end)
    assert len(zipfile.ZipFile(path).namelist()) == 10

    assert "as a zip bomb; the zip is refused" in refusal(path)


def test_an_encrypted_member_is_refused(path: Path) -> None:
    write(path, ("a.json", b"{}"))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)

    assert "member 'a.json' is encrypted" in refusal(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_zip_is_named(path: Path, share: float) -> None:
    write(path, ("a.json", bytes(range(256)) * 100))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    assert "not a whole zip (File is not a zip file); delete it and fetch it again" in refusal(path)


def test_a_web_page_is_named(path: Path) -> None:
    path.write_text("<!doctype HTML><html><head><title>502 Bad Gateway</title>")

    assert f"{path}: an HTML page ('502 Bad Gateway') in place of the file" in refusal(path)


def test_an_archive_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(StageError, match="there is no such zip"):
        archives.extract(path, "a.json", path.parent / "a.json")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_named_and_not_written(path: Path, compression: int) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a.json", bytes(range(256)) * 100)
        archive.writestr("b.json", b"{}")
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)
    output = path.parent / "a.json"

    with pytest.raises(StageError, match=r"annotations\.zip: member a\.json is damaged: "):
        archives.extract(path, "a.json", output)

    assert sorted(path.parent.iterdir()) == [path]
    archives.extract(path, "b.json", output)
    assert output.read_bytes() == b"{}"


def test_a_member_that_lies_about_its_length_is_damaged(path: Path) -> None:
    write(path, ("a.json", bytes(100_000)))
    content = path.read_bytes()
    assert content.count(struct.pack("<L", 100_000)) == 2
    path.write_bytes(content.replace(struct.pack("<L", 100_000), struct.pack("<L", 10)))

    with pytest.raises(StageError, match=r"member a\.json is damaged: Bad CRC-32"):
        archives.extract(path, "a.json", path.parent / "a.json")


def test_a_member_is_extracted_to_where_the_caller_says(path: Path) -> None:
    write(path, ("annotations/", b""), ("annotations/a.json", b"{}"), ("b.json", b"[]"))
    output = path.parent / "new folder" / "c.json"

    archives.extract(path, "annotations/a.json", output)

    assert output.read_bytes() == b"{}"
    assert list(output.parent.iterdir()) == [output]
    archives.check_content(path)


def test_a_member_that_is_not_there_is_named_with_what_is(path: Path) -> None:
    write(path, ("annotations/person_keypoints_val2017.json", b"{}"), ("readme", b""))

    with pytest.raises(StageError) as error:
        archives.extract(path, "person_keypoints_val2017.json", path.parent / "a.json")

    assert str(error.value) == (
        f"{path}: holds no person_keypoints_val2017.json; it holds "
        "annotations/person_keypoints_val2017.json"
    )
