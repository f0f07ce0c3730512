"""Try on a GPU what only a GPU can tell, in one command: `python scripts/gpu_kit.py yolov8n.pt --data coco.yaml`."""

from __future__ import annotations

import sys

from yoloqat.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["gpu-kit", *sys.argv[1:]]))
