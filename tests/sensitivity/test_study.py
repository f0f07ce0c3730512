"""Nothing finished is lost, nothing is done twice, nothing of other inputs is taken for one's own."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import threading

import pytest

from yoloqat.errors import ConfigError, DataError, OutputError, YoloqatError
from yoloqat.sensitivity import study as study_module
from yoloqat.sensitivity.study import Study, WorkResult, is_gone, this_process

INPUTS = {"model": "abc", "threads": 1, "evaluation": {"imgsz": 64, "batch": 4}}


def result(number=0):
    return WorkResult(b"matches %d" % number, 0.25, 1.5, 0.5, 3, b"detections")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "study.db"


@pytest.fixture
def open_study(path):
    studies = []

    def make(owner=None, inputs=INPUTS):
        studies.append(Study(path, inputs, owner=owner))
        return studies[-1]

    yield make
    for study in studies:
        study.close()


def test_what_was_finished_is_there_when_it_is_opened_again(open_study):
    study = open_study()
    study.want(["a", "b"], range(2))
    chunk, items = study.claim()
    assert (chunk, items) == (0, ["a", "b"])
    assert study.finish("a", 0, result(7))
    study.close()
    again = open_study()
    assert again.counts() == (1, 4)
    assert list(again.results("a")) == [0]
    assert again.results("a")[0].matches == b"matches 7"
    assert again.results("a")[0].detections == b"detections"
    assert again.results("b") == {}


def test_wanting_again_changes_nothing(open_study):
    study = open_study()
    study.want(["a"], [0])
    study.claim()
    study.finish("a", 0, result())
    study.want(["a", "b"], [0])
    assert study.counts() == (1, 2)
    assert study.claim() == (0, ["b"])


def test_two_owners_share_and_never_take_the_same(open_study):
    one, two = open_study("one"), open_study("two")
    one.want([f"item {number:02d}" for number in range(12)], range(3))
    first = one.claim()
    taken = [first]
    while (claimed := two.claim()) is not None:
        taken.append(claimed)
        for item in claimed[1]:
            assert two.finish(item, claimed[0], result())
    pairs = [(chunk, item) for chunk, items in taken for item in items]
    assert len(pairs) == len(set(pairs)) == 36
    assert two.claims() == 36
    assert max(len(items) for _, items in taken[1:]) < 12  # not all that is left goes to one


def test_pieces_for_many_workers_are_cut_small(open_study):
    study = open_study()
    study.want([f"item {number:02d}" for number in range(40)], [0])
    assert len(study.claim(workers=4)[1]) == 5
    assert len(study.claim(most=3)[1]) == 3


def test_a_claim_ends_with_its_time(open_study, monkeypatch):
    slow, other = open_study("slow"), open_study("other")
    slow.want(["a"], [0])
    now = [1000.0]
    monkeypatch.setattr(study_module.time, "time", lambda: now[0])
    assert slow.claim() == (0, ["a"])
    now[0] += study_module.LEASE_SECONDS - 1
    assert other.claim() is None
    slow.renew()
    now[0] += study_module.LEASE_SECONDS - 1
    assert other.claim() is None
    now[0] += 2
    assert other.claim() == (0, ["a"])
    assert not slow.finish("a", 0, result(1))  # too late: it is another's now
    assert other.finish("a", 0, result(2))
    assert not slow.finish("a", 0, result(3))
    assert slow.results("a")[0].matches == b"matches 2"


def test_a_claim_of_a_dead_process_is_free_at_once(open_study):
    code = "from yoloqat.sensitivity.study import this_process; print(this_process())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert is_gone(dead)
    assert not is_gone(this_process())
    assert not is_gone("another-machine:1:2")
    ghost, heir = open_study(dead), open_study()
    ghost.want(["a"], [0])
    assert ghost.claim() == (0, ["a"])
    assert heir.claim() == (0, ["a"])


def test_windows_is_asked_of_no_process(monkeypatch):
    monkeypatch.setattr(study_module.os, "kill", lambda *_: pytest.fail("signal 0 is Ctrl-C there"))
    owner = this_process()
    with monkeypatch.context() as windows:
        windows.setattr(study_module.os, "name", "nt")
        gone = is_gone(owner)
    assert not gone


def test_a_number_that_was_given_to_a_later_process_is_not_the_same(monkeypatch):
    host, number, start = this_process().split(":")
    assert is_gone(f"{host}:{number}:{int(start) - 1}")


def test_what_is_released_is_free(open_study):
    one, two = open_study("one"), open_study("two")
    one.want(["a"], [0])
    one.claim()
    assert two.claim() is None
    one.release()
    assert two.claim() == (0, ["a"])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"threads": 2}, "was made with threads 1 and this run has 2"),
        ({"evaluation": {"imgsz": 96, "batch": 4}}, "was made with evaluation.imgsz 64 and this run has 96"),
        ({"model": "xyz"}, 'was made with model "abc" and this run has "xyz"'),
        ({"bits": 4}, "was made with bits None and this run has 4"),
    ],
)
def test_other_inputs_are_refused_and_the_difference_is_named(open_study, change, text):
    open_study()
    with pytest.raises(ConfigError, match=text):
        open_study(inputs=INPUTS | change)
    open_study()


def test_a_foreign_file_and_an_unfit_place_are_told(tmp_path):
    foreign = tmp_path / "study.db"
    foreign.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(DataError, match=f"'{foreign}' is no study, or is damaged"):
        Study(foreign, INPUTS)
    blocked = foreign / "study.db"
    with pytest.raises(OutputError, match=f"study '{blocked}' cannot be written"):
        Study(blocked, INPUTS)


def test_it_is_a_file_in_wal_mode_with_a_transaction_per_piece(open_study, path):
    study = open_study()
    study.want(["a", "b"], [0])
    study.claim()
    study.finish("a", 0, result())
    other = sqlite3.connect(path)  # sees what is written, without the writer's help
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert other.execute("SELECT item FROM piece WHERE done = 1").fetchall() == [("a",)]
    other.close()


def test_the_first_note_is_heard(open_study):
    study = open_study()
    assert study.noted("round 1") is None
    study.note("round 1", {"items": ["a"], "chunks": [3]})
    study.note("round 1", {"items": ["b"], "chunks": [4]})
    assert study.noted("round 1") == {"items": ["a"], "chunks": [3]}


def test_what_is_made_once_is_read_afterwards(open_study):
    study = open_study()
    assert study.once("shares", lambda: {"a": 1}, lambda kept: kept["a"]) == 1
    assert study.once("shares", lambda: {"a": 2}, lambda kept: kept["a"]) == 1
    with pytest.raises(DataError, match=r"note 'shares': KeyError 'b'"):
        study.once("shares", dict, lambda kept: kept["b"])


def test_threads_may_use_one_study(open_study):
    study = open_study()
    study.want([f"{number}" for number in range(50)], [0])
    _, items = study.claim()
    errors = []

    def renew():
        try:
            for _ in range(50):
                study.renew()
        except sqlite3.Error as error:
            errors.append(error)

    thread = threading.Thread(target=renew)
    thread.start()
    assert all(study.finish(item, 0, result()) for item in items)
    thread.join()
    assert not errors


def filled(study):
    study.want(["a", "b"], range(3))
    chunk, items = study.claim()
    for item in items:
        assert study.finish(item, chunk, result(chunk))
    study.note("round 0", {"items": ["a"], "chunks": [0], "cost": 1.0})
    study.release()
    study.close()


def used(path, owner="fuzz"):
    """Do with a file all that a scan does with it."""
    study = Study(path, INPUTS, owner=owner)
    try:
        study.want(["a", "b", "c"], [0, 1])
        claimed = study.claim()
        if claimed is not None:
            for item in claimed[1]:
                study.finish(item, claimed[0], result())
        study.renew()
        for item in "abc":
            study.results(item)
        study.noted("round 0", lambda kept: float(kept["cost"]))
        study.note("round 1", 2)
        study.release()
        return study.counts(), study.claims()
    finally:
        study.close()


@pytest.mark.parametrize(
    ("pragma", "text"),
    [("max_page_count=12", "database or disk is full"), ("query_only=1", "attempt to write a readonly database")],
)
def test_a_full_disk_and_a_file_that_became_read_only_end_in_one_line_and_lose_nothing(open_study, pragma, text):
    study = open_study()
    study.want(["a", "b"], [0, 1])
    study.claim()
    assert study.finish("a", 0, result(7))
    study._connection.execute(f"PRAGMA {pragma}")
    large = WorkResult(random.Random(0).randbytes(1 << 20), 0.25, 1.5, 0.5, 3, None)
    with pytest.raises(OutputError, match=rf"study '{study.path}' cannot be written \({text}\); .*make room"):
        study.finish("b", 0, large)
    assert not study._connection.in_transaction
    study.close()
    again = open_study()
    assert again.results("a")[0].matches == b"matches 7"
    assert again.counts() == (1, 4)


def test_a_commit_that_fails_is_told_and_rolled_back(open_study):
    """SQLite may find out at COMMIT alone that the disk is full, and has or has not rolled back then."""
    study = open_study()
    study.want(["a"], [0])
    study.claim()
    real = study._connection

    class Full:
        in_transaction = property(lambda self: real.in_transaction)

        def execute(self, query, *rest):
            if query == "COMMIT":
                raise sqlite3.OperationalError("database or disk is full")
            return real.execute(query, *rest)

    study._connection = Full()
    with pytest.raises(OutputError, match=r"cannot be written \(database or disk is full\)"):
        study.finish("a", 0, result())
    assert not real.in_transaction
    study._connection = real
    assert study.results("a") == {}
    assert study.finish("a", 0, result())


def test_a_file_that_another_process_holds_is_told(open_study, path, monkeypatch):
    open_study().close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(study_module, "WAIT_SECONDS", 0.01)
    with pytest.raises(OutputError, match=rf"study '{path}' cannot be written \(database is locked\)"):
        open_study()
    holder.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE piece SET matches = NULL",
        "UPDATE piece SET matches = 'text'",
        "UPDATE piece SET head_error = 'x'",
        "UPDATE piece SET head_error = 9e999",
        "UPDATE piece SET changed = 1.5",
        "UPDATE piece SET detections = 4",
        "UPDATE piece SET chunk = 'x' || chunk",
        "UPDATE note SET value = '{'",
        "UPDATE note SET value = '[1]'",
        "UPDATE note SET value = x'ff'",
        'UPDATE note SET value = \'{"cost": "many"}\'',
        "DROP TABLE piece; CREATE TABLE piece (item, chunk, done)",
        "DROP TABLE note; CREATE VIEW note AS SELECT 1 AS name",
    ],
)
def test_a_study_that_holds_something_else_is_told(open_study, path, statement):
    filled(open_study())
    other = sqlite3.connect(path)
    other.executescript(statement)
    other.close()
    with pytest.raises(DataError, match=f"'{path}' is no study, or is damaged"):
        used(path)


def test_whatever_bytes_are_damaged_nothing_but_a_told_error_comes_out(open_study, path, tmp_path):
    filled(open_study())
    whole = path.read_bytes()
    rng = random.Random(15)
    told = 0
    for number in range(60):
        content = bytearray(whole)
        if number % 4 == 0:
            del content[rng.randrange(len(content)) :]
        else:
            for _ in range(rng.choice([1, 8, 200])):
                content[rng.randrange(len(content) if number % 2 else 200)] = rng.randrange(256)
        target = tmp_path / f"{number}" / "study.db"
        target.parent.mkdir()
        target.write_bytes(content)
        try:
            used(target)
        except YoloqatError:
            told += 1
        shutil.rmtree(target.parent)
    assert told > 20
