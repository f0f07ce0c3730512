"""Reading and rewriting ONNX graphs: what passes, lint and engines ask of a graph alike."""
