from __future__ import annotations

import pytest

from epo_jax import EpoError
from epo_jax.dream.ranges import MOST, expand, expand_seeds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("L10.N0:3", ["L10.N0", "L10.N1", "L10.N2"]),
        ("L1:3.N7", ["L1.N7", "L2.N7"]),
        ("L0:2.N5:7", ["L0.N5", "L0.N6", "L1.N5", "L1.N6"]),
        ("L3.N8:9", ["L3.N8"]),
        ("L10.N5", ["L10.N5"]),
        ("-L1.N5:7", ["-L1.N5", "-L1.N6"]),
        ("attention:L5.H3:0", ["attention:L5.H3:0"]),
        ("attention:L5.H3:5:-2", ["attention:L5.H3:-2", "attention:L5.H4:-2"]),
        ("-attention:L1:3.H0:2:4", [f"-attention:L{layer}.H{head}:4" for layer in (1, 2) for head in (0, 1)]),
        ("residual:L12:a:b.npy", ["residual:L12:a:b.npy"]),
        ("residual:L1:3.mid:a:4.npy", ["residual:L1.mid:a:4.npy", "residual:L2.mid:a:4.npy"]),
        ("residual:L3:random:5", ["residual:L3:random:5"]),
        ("residual:L1:3:random:5:7", [f"residual:L{layer}:random:{seed}" for layer in (1, 2) for seed in (5, 6)]),
        ("residual:L3.post:random:0:2", ["residual:L3.post:random:0", "residual:L3.post:random:1"]),
        ("sum:1*(L0:2.N3)", ["sum:1*(L0:2.N3)"]),
        ("logit: a:b", ["logit: a:b"]),
        ("logit:L0.N0:3", ["logit:L0.N0:3"]),
        ("logit: ", ["logit: "]),
        ("nonsense", ["nonsense"]),
        ("L1.N0:", ["L1.N0:"]),
        ("L1.N0:4:2", ["L1.N0:4:2"]),
        (" L1.N0:4", [" L1.N0:4"]),
    ],
)
def test_ranges_are_half_open_and_everything_else_is_verbatim(text, expected):
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("0", [0]), ("7:9", [7, 8]), ("-1", [-1]), ("4294967295", [4294967295]), (" 3 ", [3])]
)
def test_seeds_are_numbers_or_half_open_ranges(text, expected):
    assert expand_seeds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("residual:L2:1:random:0", "residual:L2:2:a.npy", "residual:L2:random:3:3", "attention:L0.H2:1:0"),
        *("L1.N5:5", "L1.N5:4", "L2:2.N0", "L3:1.N0:4", f"L0.N0:{MOST + 1}", "L0:999.N0:999"),
    ],
)
def test_ranges_that_hold_nothing_or_too_much_are_refused_by_name(text):
    with pytest.raises(EpoError, match=f"^--feature={text}: "):
        expand(text)


@pytest.mark.parametrize("text", ["5:5", "5:4", "many", "", "1:2:3", ":3", "3:", "0:4294967296", "1.5"])
def test_seeds_that_name_nothing_or_too_much_are_refused_by_name(text):
    with pytest.raises(EpoError, match=f"^--seed={text}: "):
        expand_seeds(text)
