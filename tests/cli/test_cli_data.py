"""`yoloqat data` against a server on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from file_server import FileServer, serving
from tiny_coco import ANNOTATIONS, VAL, tiny_archives, tiny_source

from yoloqat.datasets import load_dataset

Cli = Callable[..., Any]
CONTENTS = tiny_archives()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with serving({f"/{address}": content for address, content in CONTENTS.items()}) as state:
        monkeypatch.setattr("yoloqat.cli.data.SOURCES", {"coco-val2017": tiny_source(state.base, CONTENTS)})
        yield state


def test_the_data_set_is_there_with_its_result(cli: Cli, server: FileServer) -> None:
    ran = cli("data", "coco-val2017", "--train")
    assert ran.code == 0, ran.err
    assert ran.result["schema"] == {"name": "yoloqat/result", "version": 1}
    assert ran.result["config"] == {"name": "coco-val2017", "train": True, "base": server.base}
    results = ran.result["results"]
    assert [archive["origin"] for archive in results["archives"]] == ["fetched"] * 3
    assert results["archives"][1]["received"] == results["archives"][1]["bytes"] == len(CONTENTS[VAL])
    assert [part["files"] for part in results["parts"]] == [1, 1, 3, 2]
    assert results["yaml"] == str(ran.directory / "coco.yaml")
    assert len(load_dataset(ran.directory / "coco.yaml").images) == 3
    assert f"next: yoloqat eval yolov8n.pt --data {ran.directory / 'coco.yaml'}" in ran.out
    assert "unpack val2017 3/3" in ran.err


def test_again_nothing_is_fetched(cli: Cli, server: FileServer) -> None:
    assert cli("data", "coco-val2017").code == 0
    server.requests.clear()
    ran = cli("data", "coco-val2017")
    assert (ran.code, server.requests) == (0, [])
    assert {archive["origin"] for archive in ran.result["results"]["archives"]} == {"present"}


def test_another_server_is_taken(cli: Cli, server: FileServer) -> None:
    ran = cli("data", "coco-val2017", "--mirror", f"{server.base}/nowhere/")
    assert ran.code == 2
    assert f"'{server.base}/nowhere/{ANNOTATIONS}' answers 404" in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert ran.files == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("coco-val2017", "--mirror", "/data"), "the server's address is '/data'"),
        (("coco-val2017", "--mirror", "http://nowhere.invalid"), "cannot get 'http://nowhere.invalid/annotations/"),
        (("imagenet",), "'imagenet'"),
        ((), "NAME"),
    ],
)
def test_a_wrong_request_is_told_in_one_line(cli: Cli, arguments: tuple[str, ...], part: str) -> None:
    ran = cli("data", *arguments)
    assert ran.code == 2
    assert len(ran.err.strip().splitlines()) == 1
    assert part in ran.err
    assert not ran.directory.exists() or ran.files == []


def test_an_interruption_keeps_what_arrived_and_says_how_to_go_on(
    cli: Cli, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("yoloqat.datasets.download_coco.check_md5", interrupt)
        ran = cli("data", "coco-val2017")
    assert ran.code == 130
    assert f"go on with: yoloqat data coco-val2017 --threads 1 --out {ran.directory}" in ran.err
    assert ran.files == ["a.zip.part"]
    server.requests.clear()
    assert cli("data", "coco-val2017").code == 0
    assert [path for path, _ in server.requests] == [f"/{VAL}"]
