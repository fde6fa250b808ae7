"""Several devices: meshes, and what lies on them."""

from epo_jax.parallel.mesh import check_mesh, make_mesh, mesh_text, replicated
from epo_jax.parallel.sharding import describe, layout

__all__ = ["check_mesh", "describe", "layout", "make_mesh", "mesh_text", "replicated"]
