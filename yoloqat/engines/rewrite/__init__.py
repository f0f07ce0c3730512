"""Rewrites of QDQ graphs into equivalent ones that an engine's integer kernels take."""
