"""What a search is made of: a pytree whose shapes alone are static."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Bool, Float32, Int32

from epo_jax.axes import Slots, Vocabulary
from epo_jax.epo.automaton import Automaton
from epo_jax.epo.guide import Guide
from epo_jax.epo.lengths import PAD, lengths_of
from epo_jax.epo.scorer import GuidingScorer, Scorer
from epo_jax.epo.sharing import Sharing

STATIC = {"static": True}
DATA_AXIS, MODEL_AXIS = "data", "model"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Search:
    """A search that is ready to start.

    Attributes:
        scorer: gives gradients and scores.
        penalties: float32[P], the fluency penalty of each slot.
        allowed: bool[V], tokens that the search may use.
        restart_every: iterations between restarts; 0 means never.
        restart_bounds: float32[2], least and greatest penalty that a restart draws.
        population: slots (P).
        children: new prompts per slot in an iteration.
        length: optimized tokens (T), the most of them where the guide lets prompts have fewer.
        top_k: tokens kept per position (K), at most those allowed.
        dreams: searches advanced together (R), whose states and infos have a leading axis; None for one without it.
        gradients_at_once: prompts whose gradients are in memory at one time; None for all.
        mesh: devices that share slots and children, along its axis "data"; None for one device.
        scale: float32[R], the size of one unit of each dream's feature, above 0: objectives are of features divided by
            it. None for 1.
        automaton: finds texts that prompts may not hold; None where there are none.
        movable: bool[T], positions whose tokens may be replaced; None for all.
        checked: whether the caller looks at the children of each iteration before they are scored.
        lies: how each leaf of the scorer lies over the axis "data"; None where each device has a whole copy.
        guide: what guides the search beyond the paper's; None for the paper's.
        openings: bool[V], tokens that a beam's prompts begin with where nothing stands before them; None for all that
            are allowed.
        group: int32[R], equal numbers for dreams that are to differ from each other; None where none are.
    """

    scorer: Scorer
    penalties: Slots
    allowed: Vocabulary
    restart_every: Int32[Array, ""]
    restart_bounds: Float32[Array, "2"]
    population: int = dataclasses.field(metadata=STATIC)
    children: int = dataclasses.field(metadata=STATIC)
    length: int = dataclasses.field(metadata=STATIC)
    top_k: int = dataclasses.field(metadata=STATIC)
    dreams: int | None = dataclasses.field(default=None, metadata=STATIC)
    gradients_at_once: int | None = dataclasses.field(default=None, metadata=STATIC)
    mesh: Mesh | None = dataclasses.field(default=None, metadata=STATIC)
    scale: Float32[Array, " R"] | None = None
    automaton: Automaton | None = None
    movable: Bool[Array, " T"] | None = None
    checked: bool = dataclasses.field(default=False, metadata=STATIC)
    lies: tuple[PartitionSpec, ...] | None = dataclasses.field(default=None, metadata=STATIC)
    guide: Guide | None = None
    openings: Vocabulary | None = None
    group: Int32[Array, " R"] | None = None

    def scales(self, dreams: int) -> Float32[Array, " R"]:
        """The scale of each of so many dreams."""
        return jnp.ones(dreams, jnp.float32) if self.scale is None else self.scale

    @property
    def varies(self) -> bool:
        """Whether prompts may have fewer tokens than `length`."""
        return self.guide is not None and self.guide.least_length > 0

    def own_lengths(self, ids: Int32[Array, "*N T"]) -> Int32[Array, "*N"] | None:
        """How many tokens prompts have; None where all have as many."""
        return lengths_of(ids) if self.varies else None

    def filled(self, ids: Int32[Array, "*N T"]) -> Int32[Array, "*N T"]:
        """Prompts as a scorer takes them beside their lengths, with some token in the place of each pad."""
        return jnp.where(ids == PAD, 0, ids) if self.varies else ids

    @property
    def guiding(self) -> GuidingScorer:
        """The scorer, as a search with a guide needs it.

        Raises:
            TypeError: it gives no log-probabilities.
        """
        if not isinstance(self.scorer, GuidingScorer):
            raise TypeError(
                f"{type(self.scorer).__name__}: a search with a guide needs `first_scored`, `parents` and `log_probs` "
                "of its scorer, see `epo_jax.epo.scorer.GuidingScorer`"
            )
        return self.scorer

    @property
    def model_parts(self) -> int:
        """Devices that share what the scorer computes, along the mesh's axis "model"."""
        return 1 if self.mesh is None else self.mesh.shape.get(MODEL_AXIS, 1)

    @property
    def sharing(self) -> Sharing:
        """How slots and children are shared among the devices."""
        devices = 1 if self.mesh is None else self.mesh.shape[DATA_AXIS]
        return Sharing((self.dreams or 1) * self.population, self.children, devices)
