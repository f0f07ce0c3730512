"""What is to be fetched: a server, its archives, and the parts of them that make a data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from yoloqat.datasets.download import PAUSES
from yoloqat.errors import ConfigError


@dataclass(frozen=True)
class Part:
    """A file or directory inside an archive that the data set needs.

    Attributes:
        inside: Its name in the archive; a directory's ends with ``/``.
        target: Where it goes, relative to the data set's directory.
        files: How many files it is.
        size: About how many bytes they take on the disk.
        split: The split it belongs to, ``"val"`` or ``"train"``.
    """

    inside: str
    target: str
    files: int
    size: int
    split: str

    def finished(self, root: Path) -> int:
        """Return how many of its files lie in the data set's directory."""
        path = root / self.target
        if self.inside.endswith("/"):
            return sum(1 for file in path.rglob("*") if file.is_file()) if path.is_dir() else 0
        return int(path.is_file())


@dataclass(frozen=True)
class Archive:
    """A zip file on the server.

    Attributes:
        address: Below the server's base address.
        md5: Of its bytes, lower-case hex.
        size: In bytes.
        parts: What of it is unpacked.
    """

    address: str
    md5: str
    size: int
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """Its file name."""
        return PurePosixPath(self.address).name


@dataclass(frozen=True)
class Source:
    """A server and the archives of one data set.

    Attributes:
        base: The address that the archives' addresses are below.
        archives: In the order in which they are fetched, the smallest first.
        pauses: Seconds to wait before each new try after a broken connection.

    Raises:
        ConfigError: The base is no ``http`` or ``https`` address.
    """

    base: str
    archives: tuple[Archive, ...]
    pauses: tuple[float, ...] = PAUSES

    def __post_init__(self) -> None:
        """Check the address: others, such as ``file:``, would read what no server offers."""
        try:
            address = urlsplit(self.base)
            fits = address.scheme in {"http", "https"} and bool(address.hostname)
        except ValueError:
            fits = False
        if not fits:
            raise ConfigError(
                f"the server's address is '{self.base}'",
                expected="an address that starts with http:// or https://",
                hint="write it in full",
            )

    def url(self, archive: Archive) -> str:
        """Return the full address of an archive."""
        return f"{self.base.rstrip('/')}/{archive.address}"

    def at(self, base: str | None) -> Source:
        """Return the same archives at another server; None changes nothing."""
        return self if base is None else replace(self, base=base)

    def of(self, splits: frozenset[str]) -> Source:
        """Return only what some splits need."""
        kept = (
            replace(archive, parts=tuple(part for part in archive.parts if part.split in splits))
            for archive in self.archives
        )
        return replace(self, archives=tuple(archive for archive in kept if archive.parts))


COCO2017 = Source(
    "http://images.cocodataset.org",  # the bucket has no certificate for this name, so https is not offered
    (
        Archive(
            "annotations/annotations_trainval2017.zip",
            "f4bbac642086de4f52a3fdda2de5fa2c",
            252_907_541,
            (
                Part("annotations/instances_val2017.json", "annotations/instances_val2017.json", 1, 21_000_000, "val"),
                Part(
                    "annotations/instances_train2017.json",
                    "annotations/instances_train2017.json",
                    1,
                    470_000_000,
                    "train",
                ),
            ),
        ),
        Archive(
            "zips/val2017.zip",
            "442b8da7639aecaf257c1dceb8ba8c80",
            815_585_330,
            (Part("val2017/", "images/val2017", 5000, 840_000_000, "val"),),
        ),
        Archive(
            "zips/train2017.zip",
            "cced6f7f71b7629ddf16f17bbcfab6b2",
            19_336_861_798,
            (Part("train2017/", "images/train2017", 118_287, 19_800_000_000, "train"),),
        ),
    ),
)
"""The official files of COCO 2017; sizes and checksums as many projects publish them, since COCO itself does not."""
