"""The former name of `python -m yoloqat.cli.tensorrt`, which builds an engine without torch."""

import runpy

if __name__ == "__main__":
    runpy.run_module("yoloqat.cli.tensorrt", run_name="__main__", alter_sys=True)
