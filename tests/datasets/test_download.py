"""One file from a local server that has faults."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serving

from yoloqat.datasets.download import CHUNK, check_md5, fetch, in_megabytes
from yoloqat.errors import DataError, OutputError

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving({"/f.zip": CONTENT}) as state:
        yield state


def get(server: FileServer, part: Path, *, size: int = len(CONTENT), pauses: tuple[float, ...] = ()) -> int:
    return fetch(f"{server.base}/f.zip", part, size, hint="do this", pauses=pauses, timeout=5)


def test_a_whole_file_arrives_in_one_request(server, tmp_path):
    steps = []
    part = tmp_path / "f.zip.part"
    received = fetch(
        f"{server.base}/f.zip", part, len(CONTENT), hint="do this", progress=lambda *state: steps.append(state)
    )
    assert part.read_bytes() == CONTENT
    assert (received, server.requests) == (len(CONTENT), [("/f.zip", 0)])
    assert steps[-1] == ("fetch f.zip, MB", 1, 1)


def test_the_rest_alone_is_asked_for_after_an_interruption(server, tmp_path):
    part = tmp_path / "p"
    server.cuts = [1000, 0]
    with pytest.raises(DataError, match=rf"the connection broke; 1000 of {len(CONTENT)} bytes are there"):
        get(server, part)
    assert get(server, part) == len(CONTENT) - 1000
    assert part.read_bytes() == CONTENT
    assert server.requests == [("/f.zip", 0), ("/f.zip", 1000), ("/f.zip", 1000)]
    assert server.served == len(CONTENT), "no byte came twice"


def test_a_broken_connection_is_taken_up_again_in_the_same_call(server, tmp_path):
    server.cuts = [1000, 0, 2000, 0]
    assert get(server, tmp_path / "p", pauses=(0.0,)) == len(CONTENT)
    assert (tmp_path / "p").read_bytes() == CONTENT
    assert [first for _, first in server.requests] == [0, 1000, 1000, 3000, 3000]
    assert server.served == len(CONTENT)


def test_a_server_that_always_breaks_is_given_up(server, tmp_path):
    server.cuts = [1000] + [0] * 10
    with pytest.raises(DataError, match=f"cannot get '{server.base}/f.zip'.*1000 of"):
        get(server, tmp_path / "p", pauses=(0.0, 0.0))
    assert len(server.requests) == 4, "the first, one at once, and one after each pause"


def test_a_server_without_ranges_starts_over(server, tmp_path):
    part = tmp_path / "p"
    part.write_bytes(b"other bytes")
    server.ranges = False
    assert get(server, part) == len(CONTENT)
    assert part.read_bytes() == CONTENT


def test_a_server_without_ranges_that_breaks_at_the_same_place_is_given_up(server, tmp_path):
    server.ranges = False
    server.cuts = [500] * 20
    with pytest.raises(DataError, match="500 of"):
        get(server, tmp_path / "p", pauses=(0.0, 0.0))
    assert len(server.requests) == 4


def test_a_server_that_tells_no_length_gives_no_more_than_was_expected(server, tmp_path):
    server.lengths = False
    assert get(server, tmp_path / "p", size=300) == 300
    assert (tmp_path / "p").read_bytes() == CONTENT[:300]


def test_a_file_that_is_there_asks_for_nothing_and_a_longer_one_starts_over(server, tmp_path):
    part = tmp_path / "p"
    part.write_bytes(CONTENT)
    assert get(server, part) == 0
    assert server.requests == []
    part.write_bytes(CONTENT + b"more")
    assert get(server, part) == len(CONTENT)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("start", [0, 100])
def test_a_file_of_another_size_is_refused_before_it_arrives(server, tmp_path, start):
    part = tmp_path / "p"
    part.write_bytes(CONTENT[:start])
    size = len(CONTENT) + 7
    message = f"f.zip' offers {len(CONTENT)} bytes from byte {start}; expected {size} bytes from byte {start}; do this"
    with pytest.raises(DataError, match=message):
        get(server, part, size=size)
    assert part.read_bytes() == CONTENT[:start], "what was there stays"


def test_an_answer_that_is_no_file_is_named(server, tmp_path):
    with pytest.raises(DataError, match=re.escape(f"'{server.base}/g.zip' answers 404 Not Found")):
        fetch(f"{server.base}/g.zip", tmp_path / "p", 10, hint="do this")
    assert not (tmp_path / "p").exists()


def test_a_refused_connection_is_told_at_once(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/f.zip"
        message = rf"cannot get '{url}' \(Connection refused; 0 of 10 bytes are there\).*; do this"
        with pytest.raises(DataError, match=message):
            fetch(url, tmp_path / "p", 10, hint="do this", pauses=(60.0,))


def test_a_server_that_is_not_known_or_an_address_that_is_none_is_told(tmp_path):
    for url in ("http://nowhere.invalid/f.zip", "http://127.0.0.1:port/f.zip"):
        with pytest.raises(DataError, match=f"cannot get '{url}'"):
            fetch(url, tmp_path / "p", 10, hint="do this", pauses=(60.0,))


def test_a_full_disk_is_told(server, tmp_path):
    (tmp_path / "p").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=re.escape(f"cannot write '{tmp_path / 'p'}' (No space left on device)")):
        get(server, tmp_path / "p")


def test_a_wrong_checksum_names_both(tmp_path):
    path = tmp_path / "f.zip.part"
    path.write_bytes(b"hello")
    steps = []
    check_md5(path, "5d41402abc4b2a76b9719d911017c592", hint="do this", progress=lambda *state: steps.append(state))
    assert steps == [("check f.zip, MB", 1, 1)]
    with pytest.raises(
        DataError, match=f"the MD5 of '{path}' is 5d41402abc4b2a76b9719d911017c592; expected {'0' * 32}; do this"
    ):
        check_md5(path, "0" * 32, hint="do this")
    with pytest.raises(DataError, match=re.escape(f"'{tmp_path}' cannot be read (Is a directory)")):
        check_md5(tmp_path, "0" * 32, hint="do this")
    with pytest.raises(DataError, match=re.escape("'/dev/zero' cannot be read (it is no regular file)")):
        check_md5(Path("/dev/zero"), "0" * 32, hint="do this")


def test_progress_counts_megabytes_and_ends():
    steps = []
    tell = in_megabytes(lambda *state: steps.append(state), "fetch x", 3_400_000)
    for done in (0, CHUNK, 3_399_999, 3_400_000):
        tell(done)
    assert steps == [("fetch x, MB", done, 3) for done in (0, 0, 2, 3)]
