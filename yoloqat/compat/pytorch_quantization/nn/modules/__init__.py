"""Where NVIDIA's package keeps its layers; scripts import ``_utils`` and ``tensor_quantizer`` from here."""
