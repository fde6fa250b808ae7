"""Functions as features."""

from __future__ import annotations

import dataclasses
import sys
import textwrap

import feature_functions
import numpy as np
import pytest
from refusing import IDS, refused, scored

import epo_jax
from epo_jax.models.decoder import MLP_POST


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The function that writes a module into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    def write(name, code):
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(code))
        # Modules are looked for anew.
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_functions_in_the_current_folder_are_found(tiny, module):
    module(
        "inner_of_mine.deep",
        "def f(v): return v['blocks.1.mlp.hook_post'][0, 3]\nf.sites = ('blocks.1.mlp.hook_post',)",
    )
    feature = epo_jax.parse_feature("inner_of_mine.deep:f", tiny)
    assert feature.sites == (MLP_POST,)
    assert feature.depth == 1
    expected = epo_jax.score(tiny, epo_jax.parse_feature("L1.N3", tiny), IDS, read=0).feature
    np.testing.assert_allclose(epo_jax.score(tiny, feature, IDS).feature, expected, rtol=1e-5)


def test_a_function_is_shown_the_whole_sequence_and_no_target(tiny):
    template = epo_jax.Template(prefix="The cat", suffix=" ran", bos="never")
    encode = tiny.tokenizer.encode
    ids = [[*encode("The cat", add_special_tokens=False), 5, 6, *encode(" ran", add_special_tokens=False)]]
    shapes = []

    def function(values):
        shapes.append({site: value.shape for site, value in values.items()})
        return feature_functions.attended(values)

    feature = dataclasses.replace(
        epo_jax.parse_feature("feature_functions:attended", tiny), function=epo_jax.features.reads()(function)
    )
    total = dataclasses.replace(
        epo_jax.parse_feature("sum:1*(L1.N1)+1*(continuation:(a))", tiny),
        terms=(feature, epo_jax.parse_feature("continuation:(a)", tiny)),
    )
    epo_jax.score(tiny, total, ids, template)
    seen = len(ids[0])
    assert shapes
    assert all(shape == {feature_functions.PATTERN: (seen, 6, seen)} for shape in shapes)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", "module mine_code has no function f"),
        ("f = 3", "module mine_code has no function f"),
        ("class f: sites = ('blocks.1.hook_resid_pre',)", "module mine_code has no function f"),
        ("raise OSError('no\\nway')", "module mine_code cannot be imported: OSError: no way"),
        ("import not_there", "no module mine_code, which imports or lies in one that is not there, not_there"),
        ("def f(v): ...", "needs an attribute sites"),
        ("def f(v): ...\nf.sites = 'blocks.1.hook_resid_pre'", "needs an attribute sites, a tuple of full names"),
        ("def f(v): ...\nf.sites = ()", "needs an attribute sites"),
        ("def f(v): ...\nf.sites = (3,)", "needs an attribute sites"),
        ("def f(v): ...\nf.sites = ('blocks.{l}.hook_resid_pre',)", "is no site"),
        ("def f(v): ...\nf.sites = ('blocks.3.hook_resid_pre',)", "no layer 3"),
    ],
)
def test_what_is_no_function_of_sites_is_refused(tiny, module, monkeypatch, code, said):
    module("mine_code", code)
    refused(tiny, "mine_code:f", said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return v['blocks.1.hook_resid_pre'][:, 0]", "gives float32[4], where one floating number is read"),
        ("return v['blocks.1.hook_resid_pre'].argmax()", "gives int32[], where one floating number is read"),
        ("return None", "gives NoneType, where one floating number is read"),
        ("return v['blocks.2.hook_resid_pre'].sum()", "fails on {site: float32[4, ...]}: KeyError"),
        (
            "return float(v['blocks.1.hook_resid_pre'].sum())",
            "fails on {site: float32[4, ...]}: ConcretizationTypeError",
        ),
    ],
)
def test_a_function_that_does_not_give_a_number_is_refused(tiny, module, body, said):
    module("mine_body", f"def f(v): {body}\nf.sites = ('blocks.1.hook_resid_pre',)")
    refused(tiny, "mine_body:f", said, scored)


def test_a_module_that_is_not_there_is_refused(tiny):
    refused(tiny, "not_there_at_all:f", "no module not_there_at_all; a function of yours is given as package.module:f")
