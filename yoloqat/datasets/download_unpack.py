"""Files out of a zip archive, each where it was asked for and nowhere else, all of them or none."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from yoloqat.errors import DataError
from yoloqat.progress import Progress, silent
from yoloqat.provenance import atomic_directory, atomic_path


def unpack(archive: Path, inside: str, target: Path, *, files: int, progress: Progress = silent) -> None:
    """Write one file, or all files below one directory, of a zip archive; the target appears whole or not at all.

    Args:
        archive: The zip file.
        inside: What to take: a file's name in the archive, or a directory's name with ``/`` at its end.
        target: The file or directory to make.
        files: How many files that must be.
        progress: Told how many files are written.

    Raises:
        DataError: It is no zip file or a damaged one, a name in it leads out of the target, or it holds another number
            of files.
        OutputError: The target cannot be written, e.g. because the disk is full.
    """
    step = f"unpack {target.name}"
    try:
        with zipfile.ZipFile(archive) as content:
            members = _members(archive, content, inside)
            if len(members) != files:
                raise _unfit(archive, f"holds {len(members)} files '{inside}'", f"{files}")
            if not inside.endswith("/"):
                with atomic_path(target) as temporary:
                    _write(content, members[0], temporary)
                progress(step, 1, 1)
                return
            with atomic_directory(target) as folder:
                for number, member in enumerate(members, start=1):
                    path = folder / member.filename.removeprefix(inside)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write(content, member, path)
                    progress(step, number, files)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _unfit(archive, f"is no whole zip file ({error})", "a zip file") from error


def _members(archive: Path, content: zipfile.ZipFile, inside: str) -> list[zipfile.ZipInfo]:
    """Return the files to take, once no name in the whole archive leads anywhere else."""
    members = [member for member in content.infolist() if not member.is_dir()]
    for member in members:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in member.filename:
            raise _unfit(archive, f"holds the name '{member.filename}'", "names below the archive's own directory")
    if inside.endswith("/"):
        return [member for member in members if member.filename.startswith(inside)]
    return [member for member in members if member.filename == inside]


def _write(content: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    with content.open(member) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _unfit(archive: Path, what: str, expected: str) -> DataError:
    return DataError(f"'{archive}' {what}", expected=expected, hint="take the official file, or name another server")
