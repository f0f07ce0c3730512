"""Where a result comes from, and how it reaches the disk: versions, hashes, and files written whole or not at all."""

from yoloqat.provenance.environment import environment
from yoloqat.provenance.files import atomic_directory, atomic_path, finite, scratch_directory, write_json, write_text
from yoloqat.provenance.hashing import digest, file_sha256

__all__ = [
    "atomic_directory",
    "atomic_path",
    "digest",
    "environment",
    "file_sha256",
    "finite",
    "scratch_directory",
    "write_json",
    "write_text",
]
