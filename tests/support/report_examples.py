"""Dataset examples for reports: plain ones, one that was not scored alone, and one of hostile texts."""

from __future__ import annotations

from html_page import HOSTILE

from epo_jax.report.examples_data import Example, Examples

EXAMPLES = Examples(
    corpus="a corpus",
    tokens=1_135_198,
    positions=1_133_328,
    maximum=12.5,
    percentiles={50.0: 0.1, 99.9: 4.5},
    rows=(
        Example("books/1.txt", (" Once", " upon"), (" a", " time"), 12.5, 11.25, 2.5),
        Example("books/2.txt", (), (" not", " alone"), 12.0, None, None),
        Example(HOSTILE[0], HOSTILE, HOSTILE, 11.0, 7.75, 6.25),
    ),
    sentence="the dream is 1.25 lower than the best of 1,135,198 tokens",
)
