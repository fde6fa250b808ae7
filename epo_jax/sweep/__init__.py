"""Dreams of many features: shared among processes, gone on with after any interruption, kept in one table."""

from epo_jax.sweep.listing import listed_features
from epo_jax.sweep.progress import SweepLive, SweepProgress
from epo_jax.sweep.run import Summary, sweep

__all__ = ["Summary", "SweepLive", "SweepProgress", "listed_features", "sweep"]
