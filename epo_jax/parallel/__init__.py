"""Several devices: meshes, and what lies on them."""

from epo_jax.parallel.mesh import check_mesh, make_mesh, mesh_text, replicated

__all__ = ["check_mesh", "make_mesh", "mesh_text", "replicated"]
