"""Max-activating dataset examples: a corpus streamed once through a model, for thousands of features together."""

from __future__ import annotations

from epo_jax.corpus.examples import DatasetExamples, Scan, load_scan
from epo_jax.corpus.grouping import latents_of, neurons_of, others_of
from epo_jax.corpus.isolated import rescore
from epo_jax.corpus.scan import ScanConfig, ScanProgress, scan
from epo_jax.corpus.sources import Document, read_documents

__all__ = [
    "DatasetExamples",
    "Document",
    "Scan",
    "ScanConfig",
    "ScanProgress",
    "latents_of",
    "load_scan",
    "neurons_of",
    "others_of",
    "read_documents",
    "rescore",
    "scan",
]
