"""INT8 for YOLO detectors: calibrate, measure, export, build."""
