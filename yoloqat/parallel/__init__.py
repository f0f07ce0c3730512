"""Worker pools: processes of this machine and workers of a Ray cluster, with their progress and errors brought back whole."""
