"""The Dockerfiles keep the rules that hadolint has, as far as text tells."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_dockerfile_keeps_the_rules(path: Path) -> None:
    steps = instructions(path)
    assert steps[0][0] == "FROM"
    assert re.fullmatch(r"[a-z/]+:\d+\.\d+[\w.-]+", steps[0][1]), "a tag that names a version"
    apt = [argument for name, argument in steps if name == "RUN" and "apt-get" in argument]
    assert len(apt) == 1
    assert "apt-get update" in apt[0]
    assert "--no-install-recommends" in apt[0]
    assert "rm -rf /var/lib/apt/lists/*" in apt[0]
    assert any("PIP_NO_CACHE_DIR=1" in rest for _, rest in steps)
    assert [rest for name, rest in steps if name == "USER"] == ["yoloqat"]
    places = [rest for name, rest in steps if name == "WORKDIR"]
    assert all(place.startswith("/") for place in places)
    assert all(rest.startswith("[") for name, rest in steps if name in ("ENTRYPOINT", "CMD"))
    sources = [word for name, rest in steps if name == "COPY" for word in rest.split()[:-1]]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {"pyproject.toml", "README.md", "LICENSE", "yoloqat", "weights", "data"} <= set(sources), (
        "what the build reads"
    )
    assert any("--constraint scripts/constraints.txt" in rest for name, rest in steps if name == "RUN")


def test_there_is_one_for_cpus_and_one_for_tensorrt() -> None:
    assert [path.name for path in FILES] == ["cpu.Dockerfile", "tensorrt.Dockerfile"]
