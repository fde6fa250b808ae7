"""A model's two sides: the decoder here and the model in PyTorch."""
