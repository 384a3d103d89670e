"""A package's archive <-> its files, in memory: hostile archives are refused, packing is deterministic.

The tar is read header by header instead of by `tarfile.open`, which skips what it cannot read and goes on;
a reader of strangers' archives has to stop there.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator, Mapping

from msgspec import Struct

from evals.errors import InvalidPackage, UnsafeArchive

MAX_ARCHIVE_BYTES = 10_000_000
MAX_CONTENT_BYTES = 50_000_000
MAX_RATIO = 100
RATIO_COUNTS_FROM_BYTES = 1_000_000  # a small text of one repeated line is no bomb
MAX_FILES = 2_000
MAX_PATH_BYTES = 512
MAX_PATH_DEPTH = 32
MAX_SINGLE_TEXT_BYTES = 1_000_000
SINGLE_FILE = "prompt.md"  # the name of a package that came as one text without a tar

_BLOCK = 512
_END = bytes(_BLOCK)
_PAX_LIMIT_BYTES = 64_000
_MAX_HEADERS = 4 * MAX_FILES  # folders and long names have headers of their own
_DRIVE = re.compile(r"[A-Za-z]:")


def read_archive(data: bytes) -> dict[str, bytes]:
    """Path -> content of a `.tar.gz`, or `{"prompt.md": text}` for one gzip'd text without a tar.

    Raises UnsafeArchive for whatever an honest tool does not write, and past the limits above.
    """
    if len(data) > MAX_ARCHIVE_BYTES:
        raise UnsafeArchive(f"The archive is larger than {MAX_ARCHIVE_BYTES // 1_000_000} MB.")
    stream = _Inflated(data)
    first = stream.read_up_to(_BLOCK)
    if first[257:262] != b"ustar":
        return {SINGLE_FILE: _single_text(first + stream.read_up_to(MAX_SINGLE_TEXT_BYTES + 1))}
    files = {member.path: member.content for member in _read_members(stream, first)}
    require_distinct(files)
    if not files:
        raise UnsafeArchive("The archive holds no files.")
    return files


def snapshot_id(files: Mapping[str, bytes]) -> str:
    """64 hex digits that name these paths and contents, whatever archive they came in."""
    digest = hashlib.sha256()
    for path, content in sorted(files.items()):
        name = path.encode()
        # Lengths first: no two sets of files may give the same bytes.
        digest.update(len(name).to_bytes(8, "big") + name + len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def pack(files: Mapping[str, bytes]) -> bytes:
    """A `.tar.gz` of the files: the same bytes for the same files. Raises InvalidPackage past the limits."""
    for path in files:
        require_safe_path(path)
    require_distinct(files)
    if not files:
        raise InvalidPackage("There are no files to pack.")
    tar = _tar(files)
    packed = gzip.compress(tar, mtime=0)
    if len(packed) > MAX_ARCHIVE_BYTES or len(tar) > MAX_CONTENT_BYTES:
        raise InvalidPackage(
            f"The package is larger than {MAX_ARCHIVE_BYTES // 1_000_000} MB; take out what the model does not read."
        )
    if len(tar) > RATIO_COUNTS_FROM_BYTES and len(tar) > MAX_RATIO * len(packed):
        raise InvalidPackage("The package is one text repeated over and over; take the repetition out.")
    return packed


def require_safe_path(path: str) -> None:
    """Raises UnsafeArchive unless `path` is relative, plain and stays below its folder."""
    if problem := _problem_with_path(path):
        raise UnsafeArchive(f"The file name {quoted_path(path)} {problem}.")


def require_distinct(files: Mapping[str, bytes]) -> None:
    """Raises UnsafeArchive if there are too many files, or two that some disk could not hold side by side."""
    if len(files) > MAX_FILES:
        raise UnsafeArchive(f"The package has more than {MAX_FILES:,} files.")
    seen: dict[str, str] = {}
    for path in files:
        other = seen.setdefault(_folded(path), path)
        if other != path:
            raise UnsafeArchive(
                f"The names {quoted_path(other)} and {quoted_path(path)} differ only by case or Unicode form."
            )
    for folded, path in seen.items():
        parts = folded.split("/")
        if parent := next((p for n in range(1, len(parts)) if (p := "/".join(parts[:n])) in seen), None):
            raise UnsafeArchive(f"{quoted_path(seen[parent])} is both a file and the folder of {quoted_path(path)}.")


def quoted_path(path: str) -> str:
    """The path between back-ticks, cut to 80 characters, invisible characters escaped."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in path[:80]).replace("`", "'")
    return f"`{shown}{'…' if len(path) > 80 else ''}`"


def _problem_with_path(path: str) -> str | None:
    parts = path.split("/")
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        return "is not UTF-8"
    problems = {
        "is absolute": path.startswith("/"),
        "holds a backslash": "\\" in path,
        "starts with a drive letter": _DRIVE.match(path),
        "leads out of the package": ".." in parts,
        "is empty or has an empty part": "" in parts or "." in parts,
        f"is longer than {MAX_PATH_BYTES} bytes": size > MAX_PATH_BYTES,
        f"is more than {MAX_PATH_DEPTH} folders deep": len(parts) > MAX_PATH_DEPTH,
        "holds control or invisible characters": any(map(_is_invisible, path)),
    }
    return next((problem for problem, found in problems.items() if found), None)


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def _single_text(content: bytes) -> bytes:
    if len(content) > MAX_SINGLE_TEXT_BYTES:
        raise UnsafeArchive(f"The archive's text is larger than {MAX_SINGLE_TEXT_BYTES // 1_000_000} MB.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise UnsafeArchive("The archive holds neither a tar nor a UTF-8 text.") from None
    if "\0" in text or not text.strip():
        raise UnsafeArchive("The archive holds neither a tar nor a text.")
    return content


class _Inflated:
    """Reads a gzip piece by piece and stops at the limits, so that a bomb costs no more than they allow."""

    def __init__(self, data: bytes) -> None:
        if not data.startswith(b"\x1f\x8b"):
            raise UnsafeArchive("The archive is not a gzip file.")
        self._inflate = zlib.decompressobj(wbits=31)
        self._waiting = data
        self._compressed_size = len(data)
        self._total = 0
        self._ready = bytearray()

    def read_up_to(self, size: int) -> bytes:
        """`size` bytes, or fewer at the end, which must be clean."""
        while len(self._ready) < size and not self._inflate.eof:
            self._read_more()
        with memoryview(self._ready) as ready:  # one copy less of what may be 50 MB
            piece = bytes(ready[:size])
        del self._ready[:size]
        return piece

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises UnsafeArchive if there are not as many."""
        if size > MAX_CONTENT_BYTES - self._total + len(self._ready):
            raise UnsafeArchive(_too_much())
        piece = self.read_up_to(size)
        if len(piece) < size:
            raise UnsafeArchive("The archive is truncated.")
        return piece

    def _read_more(self) -> None:
        try:
            piece = self._inflate.decompress(self._waiting, 65_536)
        except zlib.error:
            raise UnsafeArchive("The archive is damaged: its gzip data cannot be read.") from None
        self._waiting = self._inflate.unconsumed_tail
        self._total += len(piece)
        self._ready += piece
        if self._total > MAX_CONTENT_BYTES:
            raise UnsafeArchive(_too_much())
        if self._total > max(RATIO_COUNTS_FROM_BYTES, MAX_RATIO * self._compressed_size):
            raise UnsafeArchive(f"The archive unpacks to more than {MAX_RATIO} times its size.")
        if self._inflate.eof and self._inflate.unused_data:
            raise UnsafeArchive("The archive has data after its end.")
        if not piece and not self._inflate.eof:
            raise UnsafeArchive("The archive is truncated.")


def _too_much() -> str:
    return f"The archive unpacks to more than {MAX_CONTENT_BYTES // 1_000_000} MB."


class _Member(Struct, frozen=True):
    path: str
    content: bytes


class _Overrides(Struct, frozen=True):
    """What the headers before a member's own say of it."""

    path: str | None = None
    size: int | None = None


def _read_members(stream: _Inflated, first: bytes) -> Iterator[_Member]:
    block, overrides, seen = first, _Overrides(), set[str]()
    for _ in range(_MAX_HEADERS):
        if block == _END:
            _require_only_zeros(stream)
            return
        header = _parse_header(block)
        if header.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
            overrides = _read_overrides(header, stream, overrides)
        else:
            if member := _read_member(header, stream, overrides):
                if member.path in seen or len(seen) >= MAX_FILES:
                    raise UnsafeArchive(_repeated(member.path, len(seen)))
                seen.add(member.path)
                yield member
            overrides = _Overrides()
        block = stream.read(_BLOCK)
    raise UnsafeArchive(f"The archive has more than {_MAX_HEADERS:,} entries.")


def _repeated(path: str, count: int) -> str:
    if count >= MAX_FILES:
        return f"The archive has more than {MAX_FILES:,} files."
    return f"The archive holds {quoted_path(path)} twice."


def _parse_header(block: bytes) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        raise UnsafeArchive("The archive has an entry that cannot be read.") from None
    if header.size < 0:
        raise UnsafeArchive("The archive has an entry of negative size.")
    return header


def _read_overrides(header: tarfile.TarInfo, stream: _Inflated, known: _Overrides) -> _Overrides:
    if header.size > _PAX_LIMIT_BYTES:
        raise UnsafeArchive("The archive has an extended header that is too large.")
    content = _read_padded(stream, header.size)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return _Overrides(path=_decode(content.rstrip(b"\0")), size=known.size)
    records = dict(_pax_records(content))
    if any(key.startswith("GNU.sparse") for key in records):
        raise UnsafeArchive("The archive has a sparse file.")
    if header.type == tarfile.XGLTYPE:
        if "path" in records or "size" in records:
            raise UnsafeArchive("The archive gives one name or size to all of its files.")
        return known  # `git archive` writes the commit there
    return _Overrides(path=records.get("path", known.path), size=_pax_size(records, known.size))


def _pax_records(content: bytes) -> Iterator[tuple[str, str]]:
    """`length key=value\\n`, where the length counts the whole record."""
    while content:
        digits, space, _ = content.partition(b" ")
        if not space or not digits.isdigit() or len(digits) > 6:
            raise UnsafeArchive("The archive has an extended header that cannot be read.")
        record, content = content[: int(digits)], content[int(digits) :]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not equals or not record.endswith(b"\n"):
            raise UnsafeArchive("The archive has an extended header that cannot be read.")
        # Other keys may hold anything (SCHILY.xattr does); nothing of it is used.
        yield (
            key.decode("utf-8", "replace"),
            _decode(value) if key == b"path" else value.decode("utf-8", "replace"),
        )


def _pax_size(records: Mapping[str, str], known: int | None) -> int | None:
    digits = records.get("size")
    if digits is None:
        return known
    if not digits.isascii() or not digits.isdigit() or len(digits) > 12:
        raise UnsafeArchive("The archive has an extended header that cannot be read.")
    return int(digits)


def _read_member(header: tarfile.TarInfo, stream: _Inflated, overrides: _Overrides) -> _Member | None:
    path = overrides.path if overrides.path is not None else header.name
    size = overrides.size if overrides.size is not None else header.size
    # `tar -C folder .` writes `./` before every name.
    path = path.removeprefix("./").rstrip("/") if header.isdir() else path.removeprefix("./")
    if header.isdir():
        if path not in ("", "."):
            require_safe_path(path)
        if size:
            raise UnsafeArchive(f"The folder {quoted_path(path)} has content.")
        return None
    require_safe_path(path)
    if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise UnsafeArchive(f"{quoted_path(path)} is a link, a device or another special file.")
    return _Member(path, _read_padded(stream, size))


def _read_padded(stream: _Inflated, size: int) -> bytes:
    content = stream.read(size)
    stream.read(-size % _BLOCK)
    return content


def _require_only_zeros(stream: _Inflated) -> None:
    while piece := stream.read_up_to(65_536):
        if piece.count(0) != len(piece):
            raise UnsafeArchive("The archive has data after its end.")


def _decode(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        raise UnsafeArchive("The archive has a file name that is not UTF-8.") from None


def _tar(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)  # its defaults: mode 0644, owner 0, time 0
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()
