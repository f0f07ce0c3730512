"""Results as something to look at: one HTML page of a ``result.json``, of several, and charts as PNG. No torch."""
