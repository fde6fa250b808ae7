"""Names of sites, and strings of attention entries, continuations and signs."""

from __future__ import annotations

import dataclasses
import re

import jax.numpy as jnp
import pytest
from refusing import IDS, refused, scored

import epo_jax
from epo_jax import EpoError
from epo_jax.features.base import Places
from epo_jax.features.site_names import parse_site, site_width
from epo_jax.models.decoder import MLP_POST, PATTERN, RESID_PRE, SITES, Z


@pytest.fixture
def parallel(tiny):
    """As if its residual were parallel."""
    return dataclasses.replace(tiny, config=dataclasses.replace(tiny.config, parallel_residual=True))


@pytest.mark.parametrize(
    ("text", "site", "layer"),
    [
        ("blocks.0.hook_resid_pre", RESID_PRE, 0),
        ("blocks.2.mlp.hook_post", MLP_POST, 2),
        ("blocks.1.attn.hook_z", Z, 1),
        ("blocks.1.attn.hook_pattern", PATTERN, 1),
    ],
)
def test_full_names_of_sites_are_taken_apart(tiny, text, site, layer):
    assert parse_site(text, tiny, "--feature=x") == (site, layer)


@pytest.mark.parametrize(
    "text",
    [
        *("", "blocks.1", "hook_resid_pre", "blocks.one.hook_resid_pre", "blocks.-1.hook_resid_pre"),
        *("blocks.{l}.hook_resid_pre", "blocks.1.hook_resid", "blocks.1.hook_resid_pre ", "blocks.1.mlp.hook_pre"),
    ],
)
def test_what_is_no_site_is_refused_with_the_sites(tiny, text):
    for site in SITES:
        with pytest.raises(EpoError, match=re.escape(site.format(l="L"))):
            parse_site(text, tiny, "--feature=x")


def test_sites_that_a_model_has_not_are_refused(tiny, parallel):
    with pytest.raises(EpoError, match=r"--flag=x: the model has no layer 3; its layers are 0 to 2"):
        parse_site("blocks.3.hook_resid_pre", tiny, "--flag=x")
    with pytest.raises(EpoError, match="parallel residual"):
        parse_site("blocks.1.hook_resid_mid", parallel, "--flag=x")


def test_sites_are_as_wide_as_what_is_observed_there(tiny):
    widths = [site_width(site, tiny.config) for site in SITES if site != PATTERN]
    assert widths == [36, 36, 36, 36, 53, 36, 36]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("attention:L1.H3", "the form is attention:L5.H3:0"),
        ("attention:L1.H3:x", "the form is attention:L5.H3:0"),
        ("attention:L3.H0:0", "the model has no layer 3"),
        ("attention:L1.H6:0", "a layer has no head 6; its heads are 0 to 5"),
    ],
)
def test_what_is_no_entry_of_a_pattern_is_refused(tiny, text, said):
    refused(tiny, text, said)


@pytest.mark.parametrize("position", [4, -5])
def test_a_position_that_the_sequence_has_not_is_refused(tiny, position):
    said = f"the sequence has no position {position}; its positions are 0 to 3, or -4 to -1"
    refused(tiny, f"attention:L1.H0:{position}", said, scored)
    refused(tiny, f"sum:1*(attention:L1.H0:{position})", said, scored)
    refused(tiny, f"-attention:L1.H0:{position}", said, scored)


def test_positions_from_the_end_do_not_count_a_target(tiny):
    entry = epo_jax.parse_feature("sum:1*(attention:L1.H0:-1)+1*(continuation:(a))", tiny).within(10).terms[0]
    assert int(entry.position) == 9


def test_a_continuations_text_is_verbatim(lm):
    with_space, without = (
        epo_jax.parse_feature(text, lm) for text in ("continuation: Sure: a dog", "continuation:Sure")
    )
    assert lm.tokenizer.decode(with_space.target) == " Sure: a dog"
    assert lm.tokenizer.decode(without.target) == "Sure"


def test_a_continuation_of_nothing_is_refused(tiny):
    refused(tiny, "continuation:", "no text to continue with")


@pytest.mark.parametrize("read", ["max", 2, -1])
@pytest.mark.parametrize("text", ["continuation:(a)", "-continuation:(a)", "feature_functions:mixed"])
def test_what_is_read_at_no_one_token_is_read_nowhere_else(tiny, text, read):
    with pytest.raises(EpoError, match=f"--read={read}: {re.escape(text)} is not read at one token"):
        epo_jax.score(tiny, epo_jax.parse_feature(text, tiny), IDS, read=read)


def test_a_maximum_is_taken_before_signs_and_weights(tiny):
    read = jnp.asarray([True, True, False])
    places = Places(read, ~read, read)
    values = jnp.asarray([1.0, -4.0, 9.0])
    negated = epo_jax.parse_feature("-L1.N2", tiny)
    assert negated.total(values, places, None) == -1
    assert epo_jax.parse_feature("--L1.N2", tiny).total(values, places, None) == 1
    both = epo_jax.parse_feature("sum:2*(L1.N2)-3*(L1.N3)", tiny)
    assert both.total((values, -values), places, None) == 2 * 1 - 3 * 4


@pytest.mark.parametrize(("text", "said"), [("-", "not a feature string"), ("-L9.N0", "no layer 9")])
def test_a_sign_before_no_feature_is_refused(tiny, text, said):
    refused(tiny, text, said)
