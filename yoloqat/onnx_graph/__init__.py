"""Reading and rewriting ONNX graphs, and facts about operators: what passes, lint and engines ask of a graph alike."""
