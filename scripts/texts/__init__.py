"""Texts that are scored: where they come from, and the published ones."""
