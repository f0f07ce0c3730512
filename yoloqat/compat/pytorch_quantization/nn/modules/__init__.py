"""NVIDIA's package of layers; scripts import ``_utils`` and ``tensor_quantizer`` from here."""
