"""What scripts about dataset examples share."""
