from __future__ import annotations

import jax
import pytest

from epo_jax import EpoError
from epo_jax.epo.search import DATA_AXIS, MODEL_AXIS
from epo_jax.parallel import check_mesh, make_mesh, mesh_text, replicated
from epo_jax.parallel.mesh import AXES, sizes_with_room


@pytest.mark.parametrize("text", ["data:1", "model:1", "data:1,model:1", "model:1, data:1", "auto"])
def test_a_mesh_of_one_device_is_named_by_its_text(text):
    mesh = make_mesh(text)
    assert mesh.shape == {"data": 1, "model": 1}
    assert mesh_text(mesh) == "data:1"
    check_mesh(mesh)
    assert AXES == (DATA_AXIS, MODEL_AXIS)


@pytest.mark.parametrize(
    ("weights", "sizes"), [(69, (8, 1)), (71, (4, 2)), (140, (4, 2)), (142, (2, 4)), (560, (1, 8)), (10_000, (1, 8))]
)
def test_automatic_meshes_share_weights_no_further_than_memory_asks_for(weights, sizes):
    assert sizes_with_room(8, lambda mesh: weights // mesh.shape["model"], 100) == sizes


def test_automatic_meshes_have_axes_that_make_up_all_devices():
    assert sizes_with_room(12, lambda mesh: 500 // mesh.shape["model"], 100) == (1, 12)
    assert sizes_with_room(6, lambda mesh: 200 // mesh.shape["model"], 100) == (2, 3)


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
        ("batch:2", "there is no axis batch, only data, model"),
        ("data:1,batch:2", "there is no axis batch, only data, model"),
        ("model:2", "needs 2 devices, and there is 1"),
        ("data:2,model:3", "needs 6 devices"),
        ("auto,model:2", "nor auto"),
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
    with pytest.raises(EpoError, match=r"^--mesh=data:1: .*data, model"):
        check_mesh(jax.make_mesh((1,), ("data",), axis_types=(auto,)))
    with pytest.raises(EpoError, match=r"^--mesh=data:1: .*Auto"):
        check_mesh(jax.make_mesh((1, 1), ("data", "model"), axis_types=(explicit, explicit)))


def test_what_is_replicated_lies_whole_on_each_device():
    mesh = make_mesh("data:1")
    array = replicated({"a": jax.numpy.ones(3)}, mesh)["a"]
    assert array.sharding.is_fully_replicated
    assert array.sharding.mesh == mesh
