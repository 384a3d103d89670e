"""Archives: honest ones are read whatever tool wrote them, hostile ones are refused in memory."""

from __future__ import annotations

import gzip
import io
import secrets
import tarfile
import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.archives import pack, quoted_path, read_archive, snapshot_id
from evals.errors import InvalidPackage, UnsafeArchive

FILES = {"prpm.json": b"{}", "a/b.md": b"text" * 300, "é" * 60 + "/" + "x" * 150 + ".md": b"long name"}


def an_entry(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def a_tar(*entries: tuple[tarfile.TarInfo, bytes], tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tar_format) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


def an_archive(*entries: tuple[tarfile.TarInfo, bytes], tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    return gzip.compress(a_tar(*entries, tar_format=tar_format))


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archive__written_by_another_tool_is_read(tar_format: int) -> None:
    entries = [an_entry("./", type=tarfile.DIRTYPE), an_entry("./a", type=tarfile.DIRTYPE)]
    entries += [an_entry(f"./{path}", content, mtime=1.5, mode=0o4755) for path, content in FILES.items()]

    assert read_archive(an_archive(*entries, tar_format=tar_format)) == FILES


def test_archive__commit_in_a_global_header_is_passed_over() -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "abc"}) as tar:
        info, content = an_entry("a.md", b"x")
        tar.addfile(info, io.BytesIO(content))

    assert read_archive(gzip.compress(target.getvalue())) == {"a.md": b"x"}


def test_archive__one_text_without_a_tar_is_the_prompt() -> None:
    assert read_archive(gzip.compress(b"You are brief.\n")) == {"prompt.md": b"You are brief.\n"}


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a\\..\\b",
        "C:/x",
        "c:x",
        "a//b",
        "a/./b",
        "x\ny",
        "x\x1b[2J",
        "x\u202ey",
    ],
)
def test_archive__I4_I16_member_name_that_leaves_or_lies_is_refused(name: str) -> None:
    with pytest.raises(UnsafeArchive, match="The file name") as caught:
        read_archive(an_archive(an_entry("ok.md", b"x"), an_entry(name, b"x")))

    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        b"Z",
    ],
)
def test_archive__I5_anything_but_files_and_folders_is_refused(kind: bytes) -> None:
    with pytest.raises(UnsafeArchive, match="link, a device or another special file"):
        read_archive(an_archive(an_entry("ok.md", b"x"), an_entry("bad", type=kind, linkname="ok.md")))


def test_archive__I5_write_through_a_link_is_refused() -> None:
    link = an_entry("folder", type=tarfile.SYMTYPE, linkname="..")

    with pytest.raises(UnsafeArchive, match="`folder` is a link"):
        read_archive(an_archive(link, an_entry("folder/x.md", b"x")))


def test_archive__I6_bomb_stops_at_its_ratio_in_little_memory() -> None:
    bomb = gzip.compress(a_tar(an_entry("zeros", bytes(40_000_000))))
    tracemalloc.start()
    started = time.process_time()

    with pytest.raises(UnsafeArchive, match="100 times its size"):
        read_archive(bomb)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000
    assert time.process_time() - started < 1


def test_archive__I6_endless_text_is_refused() -> None:
    with pytest.raises(UnsafeArchive, match="larger than 1 MB"):
        read_archive(gzip.compress(secrets.token_hex(600_000).encode()))


def test_archive__I6_gzip_in_a_gzip_is_refused() -> None:
    with pytest.raises(UnsafeArchive, match="neither a tar nor"):
        read_archive(gzip.compress(gzip.compress(b"text")))


@pytest.mark.parametrize("size", [60_000_000, 8**11 - 1])
def test_archive__I6_header_that_claims_more_than_the_limit_is_refused_unread(size: int) -> None:
    info = tarfile.TarInfo("huge")
    info.size = size

    with pytest.raises(UnsafeArchive, match="more than 50 MB"):
        read_archive(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))


def test_archive__I6_header_that_claims_more_than_there_is_is_refused() -> None:
    info = tarfile.TarInfo("short")
    info.size = 5_000

    with pytest.raises(UnsafeArchive, match="truncated"):
        read_archive(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))


def test_archive__I6_sparse_file_is_refused() -> None:
    info = tarfile.TarInfo("x")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "1000000000"}

    with pytest.raises(UnsafeArchive, match="sparse"):
        read_archive(an_archive((info, b""), tar_format=tarfile.PAX_FORMAT))


def test_archive__I7_more_than_2000_members_are_refused() -> None:
    # Noise for content, so that the ratio is not what refuses them.
    with pytest.raises(UnsafeArchive, match="more than 2,000 files"):
        read_archive(an_archive(*(an_entry(f"{n}.md", secrets.token_bytes(50)) for n in range(2_001))))


def test_archive__I7_thousand_deep_path_is_refused() -> None:
    with pytest.raises(UnsafeArchive, match="longer than 512 bytes"):
        read_archive(an_archive(an_entry("a/" * 1_000 + "b", b"x")))
    with pytest.raises(UnsafeArchive, match="32 folders deep"):
        read_archive(an_archive(an_entry("a/" * 40 + "b", b"x")))


@pytest.mark.parametrize(
    ("one", "other"), [("A.md", "a.md"), ("\u00e9.md", "e\u0301.md"), ("ß.md", "SS.md"), ("ﬁ", "fi")]
)
def test_archive__I7_names_that_differ_only_by_case_or_unicode_form_are_refused(one: str, other: str) -> None:
    with pytest.raises(UnsafeArchive, match="differ only by"):
        read_archive(an_archive(an_entry(one, b"1"), an_entry(other, b"2")))


def test_archive__I7_same_name_twice_is_refused() -> None:
    with pytest.raises(UnsafeArchive, match=r"`a\.md` twice"):
        read_archive(an_archive(an_entry("a.md", b"1"), an_entry("a.md", b"2")))


def test_archive__I7_name_that_is_file_and_folder_is_refused() -> None:
    with pytest.raises(UnsafeArchive, match=r"`a` is both a file and the folder of `a/b`"):
        read_archive(an_archive(an_entry("a", b"1"), an_entry("a/b", b"2")))


def flip_a_byte(data: bytes) -> bytes:
    return data[:600] + bytes([data[600] ^ 1]) + data[601:]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(lambda tar: tar, "not a gzip", id="not gzip"),
        pytest.param(lambda _: b"", "not a gzip", id="empty"),
        pytest.param(lambda tar: gzip.compress(tar)[:-10], "truncated", id="gzip truncated"),
        pytest.param(lambda tar: gzip.compress(tar) + b"more", "data after its end", id="trailing data"),
        pytest.param(lambda tar: gzip.compress(tar) * 2, "data after its end", id="two gzip members"),
        pytest.param(lambda tar: flip_a_byte(gzip.compress(tar, 0)), "damaged", id="wrong checksum"),
        pytest.param(lambda tar: gzip.compress(tar[:1024]), "truncated", id="tar without its end"),
        pytest.param(lambda tar: gzip.compress(tar + b"x" * 512), "data after its end", id="data after the tar"),
        pytest.param(lambda tar: gzip.compress(tar[:1024] + b"x" * 512), "cannot be read", id="garbage for a header"),
        pytest.param(lambda _: gzip.compress(b"\xff\xfe\x00"), "neither a tar nor", id="neither tar nor text"),
        pytest.param(lambda _: gzip.compress(b""), "neither a tar nor", id="nothing inside"),
        pytest.param(lambda _: gzip.compress(b"x\0y"), "neither a tar nor", id="text with NUL"),
    ],
)
def test_archive__I8_broken_archive_is_refused(damage: Callable[[bytes], bytes], words: str) -> None:
    with pytest.raises(UnsafeArchive, match=words):
        read_archive(damage(a_tar(an_entry("a.md", b"text"))))


def test_archive__I8_over_10_megabytes_is_refused() -> None:
    with pytest.raises(UnsafeArchive, match="larger than 10 MB"):
        read_archive(bytes(10_000_001))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_archive__any_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    tar = bytearray(a_tar(an_entry("a/b.md", b"text"), an_entry("x" * 120, b"long"), tar_format=tarfile.PAX_FORMAT))
    for _ in range(data.draw(st.integers(1, 4))):
        tar[data.draw(st.integers(0, len(tar) - 1))] = data.draw(st.integers(0, 255))

    try:
        files = read_archive(gzip.compress(bytes(tar), 1))
    except UnsafeArchive:
        return
    assert not any(path.startswith("/") or ".." in path.split("/") for path in files)


def test_snapshot__id_depends_on_paths_and_contents_only() -> None:
    entries = [an_entry(path, content, mtime=99, uid=7) for path, content in reversed(FILES.items())]

    assert snapshot_id(read_archive(an_archive(*entries))) == snapshot_id(FILES)
    assert snapshot_id({"ab": b"c"}) != snapshot_id({"a": b"bc"})
    assert snapshot_id({"a": b"1", "b": b"2"}) != snapshot_id({"a": b"2", "b": b"1"})


def test_snapshot__id_stays_the_same_for_ever() -> None:
    assert snapshot_id({"a.md": b"x"}) == "f91f2df1cca83e47ed000614cec925bdbe32a10419fb174160b20aa95527d660"


def test_pack__gives_the_same_bytes_and_reads_back() -> None:
    packed = pack(FILES)

    assert packed == pack(dict(reversed(FILES.items())))
    assert read_archive(packed) == FILES


@pytest.mark.parametrize("path", ["/x", "../x", "a\\b", ""])
def test_pack__refuses_what_reading_would_refuse(path: str) -> None:
    with pytest.raises(UnsafeArchive):
        pack({path: b"x"})


def test_pack__refuses_no_files_and_a_text_repeated_for_ever() -> None:
    with pytest.raises(InvalidPackage, match="no files"):
        pack({})
    with pytest.raises(InvalidPackage, match="repeated"):
        pack({"a.md": b"a" * 3_000_000})


def test_quoted_path__I16_shows_no_control_characters() -> None:
    assert quoted_path("a\nb\x1b[31m`<script>") == "`a\\nb\\x1b[31m'<script>`"
