#!/usr/bin/env bash
# From a checkout and Python to the demo's table: sets up .venv, installs yoloqat, runs `yoloqat demo`.
#   bash scripts/demo.sh [ARGUMENTS OF yoloqat demo]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/yoloqat demo "$@"
