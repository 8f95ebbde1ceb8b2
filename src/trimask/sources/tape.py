"""Read the members of a tar file as a stream, with memory and time bounded whatever its headers say."""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import final

from trimask.media.regular import open_file

_HEADER_BYTES = 1_000_000  # of a long name or a table of attributes
_FREE_BYTES, _INFLATION = 256_000_000, 200
"""An archive may unpack to this many bytes, plus this many per byte of its own; real ones inflate tenfold."""
_BLOCK = 1 << 18
_GZIP = b"\x1f\x8b"
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_ATTRIBUTES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


@final
class _Member(tarfile.TarInfo):
    """A tar header that rejects oversized extension headers and sparse files before reading them."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _LONG + _ATTRIBUTES and not 0 <= self.size <= _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:  # the size of its map is unbounded
            raise tarfile.ReadError(f"{self.name[:200]!r} is a sparse file, which is not supported")
        return super()._proc_member(archive)  # pyright: ignore[reportAttributeAccessIssue]  (private)

    def _proc_gnusparse_00(self, *arguments: object) -> None:
        raise tarfile.ReadError(f"{self.name[:200]!r} is a sparse file, which is not supported")

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """Yield each regular file of an archive (tar or tar.gz) with a function that reads it.

    The function works until the next member is requested.

    Raises:
        tarfile.TarError, OSError, EOFError, zlib.error: it is damaged, cut short, or a decompression bomb.
    """
    with open_file(path) as raw:
        most = _FREE_BYTES + _INFLATION * path.stat().st_size
        is_zipped = raw.read(2) == _GZIP
        raw.seek(0)
        # The tape is only read forwards; tarfile's own stream mode is several times slower for small members.
        unzipped = gzip.GzipFile(fileobj=raw) if is_zipped else raw
        with (
            io.BufferedReader(unzipped, _BLOCK) as tape,  # pyright: ignore[reportArgumentType]  (it reads as one)
            tarfile.open(fileobj=tape, mode="r:", tarinfo=_Member) as archive,
        ):
            while (member := archive.next()) is not None:
                archive.members = []  # the library keeps all  # pyright: ignore[reportAttributeAccessIssue]
                if archive.offset > most:  # offset of the next header, checked before skipping to it
                    raise tarfile.ReadError(f"it unpacks to more than {_INFLATION} times its size")
                if sum(map(len, archive.pax_headers.values())) > _HEADER_BYTES:
                    raise tarfile.ReadError(f"global attributes of more than {_HEADER_BYTES} bytes")
                if member.isfile():
                    yield member, lambda member=member: _read(tape, member)


def _read(tape: io.BufferedReader, member: tarfile.TarInfo) -> bytes:
    tape.seek(member.offset_data)
    data = tape.read(member.size)
    if len(data) < member.size:
        raise tarfile.ReadError(f"{member.name} is cut short")
    return data
