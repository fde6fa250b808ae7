"""Sparse autoencoders of a model's values: where they come from, what their files say, and their latents."""

from epo_jax.autoencoders.autoencoder import Autoencoder, LatentNumbers, open_autoencoder
from epo_jax.autoencoders.settings import Settings

__all__ = ["Autoencoder", "LatentNumbers", "Settings", "open_autoencoder"]
