"""Running notebooks from top to bottom."""
