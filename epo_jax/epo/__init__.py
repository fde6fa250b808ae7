"""Evolutionary Prompt Optimization over anything that gives token gradients and scores; it knows no language model."""

from epo_jax.epo.algorithm import Algorithm
from epo_jax.epo.scorer import Candidates, Scorer, Scores
from epo_jax.epo.state import Info, State

__all__ = ["Algorithm", "Candidates", "Info", "Scorer", "Scores", "State"]
