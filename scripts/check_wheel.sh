#!/usr/bin/env bash
# Build the sdist and, from it, the wheel; install the wheel outside the checkout and run the demo there, small.
# Needs the .venv of `scripts/setup.sh dev`, whose packages serve as the wheel's dependencies.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
here="$PWD"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

.venv/bin/python -m build --outdir "$folder/dist" . > "$folder/build.log" 2>&1 || { cat "$folder/build.log" >&2; exit 1; }
ls -l "$folder/dist"
.venv/bin/python -m venv "$folder/venv"
packages="$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$folder"/dist/*.whl
# a plain line in a .pth adds a directory without running its own .pth files, so the checkout itself is not reachable
"$here/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$packages/dependencies.pth"
cd "$folder"
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import pathlib, sys, yoloqat
found = pathlib.Path(yoloqat.__file__).resolve()
assert found.is_relative_to(pathlib.Path(sys.argv[1]).resolve()), f"yoloqat comes from {found}, not from the wheel"
PYTHON
"$folder/venv/bin/yoloqat" demo --imgsz 160 --out "$folder/demo"
