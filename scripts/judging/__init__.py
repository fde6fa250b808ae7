"""The referee of searches: what each finds of the same features for the same work."""
