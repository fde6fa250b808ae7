from __future__ import annotations

import jax
import pytest

from epo_jax import EpoError
from epo_jax.epo.algorithm import DATA_AXIS
from epo_jax.parallel import check_mesh, make_mesh, mesh_text, replicated
from epo_jax.parallel.mesh import AXES


def test_a_mesh_of_one_device_is_named_by_its_text():
    mesh = make_mesh("data:1")
    assert mesh.shape == {"data": 1}
    assert mesh_text(mesh) == "data:1"
    check_mesh(mesh)
    assert AXES == (DATA_AXIS,)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("8", "not of the form data:8"),
        ("data", "not of the form data:8"),
        ("data=8", "not of the form data:8"),
        ("data:", "not of the form data:8"),
        ("data:-1", "not of the form data:8"),
        ("data:1,", "not of the form data:8"),
        ("", "not of the form data:8"),
        ("data:0", "at least 1"),
        ("model:2", "there is no axis model, only data"),
        ("data:1,model:2", "there is no axis model, only data"),
        ("data:1,data:1", "twice"),
        ("data:2", "needs 2 devices, and there is 1"),
        ("data:999999999", "needs 999999999 devices"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused_by_name(text, told):
    with pytest.raises(EpoError, match=f"^--mesh={text}: .*{told}") as caught:
        make_mesh(text)
    assert "\n" not in str(caught.value)


def test_meshes_with_other_axes_are_refused():
    auto, explicit = jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit
    with pytest.raises(EpoError, match=r"^--mesh=batch:1: .*data"):
        check_mesh(jax.make_mesh((1,), ("batch",), axis_types=(auto,)))
    with pytest.raises(EpoError, match=r"^--mesh=data:1: .*Auto"):
        check_mesh(jax.make_mesh((1,), ("data",), axis_types=(explicit,)))


def test_what_is_replicated_lies_whole_on_each_device():
    mesh = make_mesh("data:1")
    array = replicated({"a": jax.numpy.ones(3)}, mesh)["a"]
    assert array.sharding.is_fully_replicated
    assert array.sharding.mesh == mesh
