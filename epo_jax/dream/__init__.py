"""The dream: from a model and a feature to the frontier of prompts."""

from epo_jax.dream.frontier import Frontier
from epo_jax.dream.history import History
from epo_jax.dream.loop import dream
from epo_jax.dream.outcome import NonFiniteError
from epo_jax.dream.progress import Progress
from epo_jax.dream.result import Result, load_result, merge_frontiers
from epo_jax.dream.run import Run
from epo_jax.dream.scalars import TensorBoard, WeightsAndBiases

__all__ = [
    "Frontier",
    "History",
    "NonFiniteError",
    "Progress",
    "Result",
    "Run",
    "TensorBoard",
    "WeightsAndBiases",
    "dream",
    "load_result",
    "merge_frontiers",
]
