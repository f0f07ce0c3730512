#!/usr/bin/env bash
# Make .venv with yoloqat in it. Sourced by the other scripts; needs Python 3.11 or newer and nothing else.
#   PYTHON=python3.12 bash scripts/setup.sh [EXTRA ...]     e.g. dev
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.13 python3.12 python3.11 python3 python; do
    if command -v "$candidate" >/dev/null 2>&1 \
      && "$candidate" -c 'import sys, venv; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  echo "setup: no Python of at least 3.11 with the venv module was found; install one or set PYTHON to its path" >&2
  return 2
}

extras="$(IFS=,; echo "$*")"
wanted="$(cat pyproject.toml scripts/constraints.txt)"
stamp=".venv/yoloqat-setup-${extras:-plain}"
if [ ! -x .venv/bin/python ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  python="$(find_python)"
  echo "setup: making .venv with $("$python" --version)"
  "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint scripts/constraints.txt --editable ".${extras:+[$extras]}"
  # Ultralytics asks for opencv-python, which needs the system's GL libraries; a server often has none
  if ! .venv/bin/python -c 'import cv2' >/dev/null 2>&1; then
    echo "setup: OpenCV cannot load the system's GL libraries, taking the headless build"
    version="$(.venv/bin/python -c 'from importlib.metadata import version; print(version("opencv-python"))')"
    .venv/bin/python -m pip uninstall --quiet --yes opencv-python
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "opencv-python-headless==$version"
    .venv/bin/python -c 'import cv2'
  fi
  printf '%s\n' "$wanted" | tee "$stamp" > .venv/yoloqat-setup-plain  # with extras there is all that is needed without
fi
