"""Mutation operators, by name: ways of making a new prompt of one, each in a file of its own."""

from collections.abc import Mapping

from epo_jax.epo.operators.base import Edits, Operator, Parent
from epo_jax.epo.operators.crossover import Crossover
from epo_jax.epo.operators.deletion import Deletion
from epo_jax.epo.operators.gradient_swap import GradientSwap
from epo_jax.epo.operators.insertion import Insertion
from epo_jax.epo.operators.mixed_swap import MixedSwap
from epo_jax.epo.operators.model_swap import ModelSwap
from epo_jax.epo.operators.pair_swap import PairSwap

OPERATORS: Mapping[str, Operator] = {
    "gradient_swap": GradientSwap(),
    "model_swap": ModelSwap(),
    "tempered_swap": ModelSwap(sharpness=0.5),
    "uniform_swap": ModelSwap(sharpness=0.0),
    "mixed_swap": MixedSwap(),
    "pair_swap": PairSwap(),
    "insertion": Insertion(),
    "deletion": Deletion(),
    "crossover": Crossover(),
}

__all__ = ["OPERATORS", "Edits", "Operator", "Parent"]
