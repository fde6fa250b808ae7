"""A result as tables, Parquet and Neuronpedia's JSON, for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from epo_jax.dream.frontier import frontier_rows
from epo_jax.epo.lengths import bare
from epo_jax.errors import EpoError
from epo_jax.features import parse_feature
from epo_jax.models import LanguageModel
from epo_jax.scoring.neuronpedia import named_by, records
from epo_jax.scoring.template import Template, frozen_tokens

if TYPE_CHECKING:
    from epo_jax.dream.result import Result

METADATA = b"epo_jax.run", b"epo_jax.frontier"


def history_table(result: Result) -> pd.DataFrame:
    """A row per scored prompt: iteration, text, feature, cross_entropy (nats/token), on_frontier, ids."""
    history, texts = result.history, result.token_texts
    on_frontier = np.zeros(len(history), np.bool_)
    on_frontier[frontier_rows(history)] = True
    return pd.DataFrame(
        {
            "iteration": history.iteration,
            "text": ["".join(texts.get(token, "") for token in prompt) for prompt in history.ids.tolist()],
            "feature": history.feature,
            "cross_entropy": history.cross_entropy,
            "on_frontier": on_frontier,
            "ids": [bare(prompt).tolist() for prompt in history.ids],
        }
    )


def write_parquet(result: Result, path: Path) -> Path:
    """Write the history with the run in the schema's metadata; see `Result.to_parquet`.

    Raises:
        EpoError: it cannot be written.
    """
    table = pyarrow.Table.from_pandas(history_table(result), preserve_index=False)
    ids = pyarrow.array([bare(prompt) for prompt in result.history.ids], pyarrow.list_(pyarrow.int32()))
    table = table.set_column(table.schema.get_field_index("ids"), "ids", ids)
    frontier = result.frontier.to_pandas().to_json(orient="records", force_ascii=False)
    told = (json.dumps(result.run.to_json(), ensure_ascii=False), frontier)
    more = {name: text.encode() for name, text in zip(METADATA, told, strict=True)}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **more})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, path, compression="zstd")
    except OSError as error:
        raise EpoError(f"to_parquet: {path} cannot be written ({error.strerror or error})") from error
    return path


def neuronpedia(result: Result, lm: LanguageModel, layer: str | None, index: str | None) -> dict[str, Any]:
    """The frontier as Neuronpedia gives a feature; see `Result.to_neuronpedia`."""
    run = result.run
    if lm.source != run.model:
        raise EpoError(f"to_neuronpedia: the dream is of {run.model}, and the model given is {lm.source}")
    frozen = frozen_tokens(lm, Template(run.prefix, run.suffix, run.bos))
    prompts = [np.concatenate([bare(ids), frozen.suffix]) for ids in result.frontier.ids]
    activations = records(lm, parse_feature(run.feature, lm), prompts, frozen.prefix)
    return {**named_by(run.feature, lm.source, layer, index), "activations": activations}
