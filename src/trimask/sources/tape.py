"""The members of a tar file, read as a stream in bounded memory and time, whatever its headers say."""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import final

from trimask.media.regular import open_file

_HEADER_BYTES = 1_000_000  # of a long name or a table of attributes
_FREE_BYTES, _INFLATION = 256_000_000, 200
"""What may come out of an archive whatever its size, and for each byte of it: real files inflate tenfold."""
_BLOCK = 1 << 18
_GZIP = b"\x1f\x8b"
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_ATTRIBUTES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


@final
class _Member(tarfile.TarInfo):
    """A header whose own size is looked at before it is read."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _LONG + _ATTRIBUTES and not 0 <= self.size <= _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:  # its map has no bounds
            raise tarfile.ReadError(f"{self.name[:200]!r} is a sparse file, which is not read")
        return super()._proc_member(archive)  # pyright: ignore[reportAttributeAccessIssue]  (private)

    def _proc_gnusparse_00(self, *arguments: object) -> None:
        raise tarfile.ReadError(f"{self.name[:200]!r} is a sparse file, which is not read")

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """Each regular file of an archive (tar, or tar in gzip), and what reads it until the next is asked for.

    Raises:
        tarfile.TarError, OSError, EOFError, zlib.error: it is damaged, cut short, or made to keep us busy.
    """
    with open_file(path) as raw:
        most = _FREE_BYTES + _INFLATION * path.stat().st_size
        is_zipped = raw.read(2) == _GZIP
        raw.seek(0)
        # Only forwards, as a stream; the library's own streams take several times as long for small members.
        unzipped = gzip.GzipFile(fileobj=raw) if is_zipped else raw
        with (
            io.BufferedReader(unzipped, _BLOCK) as tape,  # pyright: ignore[reportArgumentType]  (it reads as one)
            tarfile.open(fileobj=tape, mode="r:", tarinfo=_Member) as archive,
        ):
            while (member := archive.next()) is not None:
                archive.members = []  # the library keeps all  # pyright: ignore[reportAttributeAccessIssue]
                if archive.offset > most:  # where the next header stands: before what is between is skipped
                    raise tarfile.ReadError(f"it has more than {_INFLATION} times its size, or says so")
                if sum(map(len, archive.pax_headers.values())) > _HEADER_BYTES:
                    raise tarfile.ReadError("too many attributes for all members")
                if member.isfile():
                    yield member, lambda member=member: _read(tape, member)


def _read(tape: io.BufferedReader, member: tarfile.TarInfo) -> bytes:
    tape.seek(member.offset_data)
    data = tape.read(member.size)
    if len(data) < member.size:
        raise tarfile.ReadError(f"{member.name} is cut short")
    return data
