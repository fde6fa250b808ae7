"""What a search would take on devices that need not be here: memory, what travels, operations."""

from epo_jax.planning.devices import Machine, machine_of
from epo_jax.planning.model import abstract_model
from epo_jax.planning.plan import Trial, best_of, plan

__all__ = ["Machine", "Trial", "abstract_model", "best_of", "machine_of", "plan"]
