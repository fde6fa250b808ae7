"""The paper's experiments: what they share."""
