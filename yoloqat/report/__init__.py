"""Pictures of results. Knows plain numbers and no model."""
