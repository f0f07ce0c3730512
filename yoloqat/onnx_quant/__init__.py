"""INT8 for a float ONNX detector without its torch model: placement, calibration and noise on the graph itself."""
