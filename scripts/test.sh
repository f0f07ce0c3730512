#!/usr/bin/env bash
# From a checkout and Python to passing tests: sets up .venv, installs yoloqat with its test tools, checks and tests.
#   bash scripts/test.sh [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh dev

.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
.venv/bin/lint-imports
NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
# two processes of one thread each: small tensors gain nothing from threads, which would only wait for each other
export OMP_NUM_THREADS=1
exec .venv/bin/python -m pytest -n 2 "$@"
