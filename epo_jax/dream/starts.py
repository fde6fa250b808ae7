"""Initial populations: a text, prompts of a file, samples from the model, examples of a dataset."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int32

from epo_jax.config import EPOConfig
from epo_jax.dream.frontier import decode
from epo_jax.epo.lengths import padded
from epo_jax.errors import EpoError, one_line
from epo_jax.models import LanguageModel
from epo_jax.models.sampling import sample
from epo_jax.models.text_tokens import shown, tokens_of
from epo_jax.models.tokenizers import token_texts
from epo_jax.scoring import Template
from epo_jax.scoring.template import frozen_tokens

RANDOM, MODEL, DATASET = "random", "model", "dataset"
INITS = (RANDOM, MODEL, DATASET)
FRONTIER = "frontier.json"
# Rounds of samples that are drawn in search of those that may stay.
ROUNDS = 100
# int32[N, T] -> which of these prompts may stay.
Keep = Callable[[Int32[np.ndarray, "N T"]], Bool[np.ndarray, " N"]]


def initial_prompts(
    lm: LanguageModel,
    config: EPOConfig,
    seeds: Sequence[int],
    template: Template,
    *,
    init: str = RANDOM,
    init_text: str | None = None,
    init_file: str | Path | None = None,
    allowed: Bool[np.ndarray, " V"] | None = None,
    keep: Keep | None = None,
    examples: Callable[[Bool[np.ndarray, " V"] | None, Keep | None], Int32[np.ndarray, "R P T"]] | None = None,
) -> Int32[np.ndarray, "P T"] | Int32[np.ndarray, "R P T"] | None:
    """The population that each dream starts from.

    Args:
        lm: the model.
        config: of which population and length count.
        seeds: of the dreams.
        template: frozen text around the prompts; samples follow its prefix.
        init: "random", "model", see `init_model`, or "dataset".
        init_text: see `init_text_ids`.
        init_file: see `init_file_ids`.
        allowed: bool[V], tokens that samples may hold; by default all but special and unused ones.
        keep: which samples may stay; others are drawn anew. Texts and files are taken as they are.
        examples: gives those of a dataset that may stay, see `dataset.example_prompts`; None without a scan.

    Returns:
        int32[P, T] for all dreams or int32[R, P, T]; None for random tokens, which the search draws itself.

    Raises:
        EpoError: several of the three are given, or one that cannot be used.
    """
    if init not in INITS:
        raise EpoError(f"--init={init}: not one of {', '.join(INITS)}")
    given = [f"--init={init}"] if init != RANDOM else []
    given += ["--init_text"] if init_text is not None else []
    given += ["--init_file"] if init_file is not None else []
    if len(given) > 1:
        raise EpoError(f"{' and '.join(given)}: a dream starts in one way; give one of them")
    if init == MODEL:
        return init_model(lm, config, seeds, template, allowed, keep)
    if init == DATASET:
        if examples is None:
            raise EpoError("--init=dataset: needs --scan, the folder of scripts/scan_corpus.py that has the examples")
        return examples(allowed, keep)
    if init_text is not None:
        return init_text_ids(lm, config, init_text)
    if init_file is not None:
        return init_file_ids(lm, config, init_file)
    return None


def init_text_ids(lm: LanguageModel, config: EPOConfig, text: str) -> Int32[np.ndarray, "P T"]:
    """A text's tokens in every slot.

    Raises:
        EpoError: their number is none that the search's prompts may have, or they do not give the text back.
    """
    ids = tokens_of(lm, text, "--init_text")
    _check_length(lm, config, ids, f"--init_text={shown(text)}")
    return padded([ids] * config.population, config.length)


def init_file_ids(lm: LanguageModel, config: EPOConfig, path: str | Path) -> Int32[np.ndarray, "P T"]:
    """The prompts of a file, one for each slot in the file's order; fewer prompts than slots are repeated in order.

    The file is a text with a prompt a line (empty lines are passed over), a .jsonl with {"text": ...} or {"ids": [...]}
    a line, or a run folder or its frontier.json or frontier.csv. Where a prompt has both ids and text, as in a run
    folder, its ids count and must be those of its text.

    Raises:
        EpoError: a file that cannot be read, more prompts than slots, or one that the search's range of lengths lacks.
    """
    flag = f"--init_file={path}"
    prompts = []
    for where, row in _rows(Path(path).expanduser(), flag):
        ids = _ids_of(lm, row, where)
        _check_length(lm, config, ids, where)
        prompts.append(ids)
    if not prompts:
        raise EpoError(f"{flag}: holds no prompts")
    if len(prompts) > config.population:
        raise EpoError(
            f"{flag}: holds {len(prompts)} prompts, and --population is {config.population}; raise that, or keep fewer "
            "prompts"
        )
    return padded(prompts, config.length)[np.arange(config.population) % len(prompts)]


def init_model(
    lm: LanguageModel,
    config: EPOConfig,
    seeds: Sequence[int],
    template: Template,
    allowed: Bool[np.ndarray, " V"] | None = None,
    keep: Keep | None = None,
) -> Int32[np.ndarray, "R P T"]:
    """Samples from the model at temperature 1, as they follow the template's prefix; each dream has its own.

    Args:
        lm: the model.
        config: of which population and length count.
        seeds: of the dreams.
        template: frozen text. Without any prefix or BOS the first token is a random one.
        allowed: bool[V], tokens that may be drawn; by default all but special and unused ones.
        keep: which samples may stay; others are drawn anew, `ROUNDS` times at most.

    Raises:
        EpoError: a template that cannot be used, more tokens than the model takes, or too few samples that may stay.
    """
    prefix = frozen_tokens(lm, template).prefix
    if len(prefix) + config.length > lm.config.max_positions:
        raise EpoError(
            f"--length={config.length}: with the prefix it makes {len(prefix) + config.length} tokens, and the model "
            f"takes {lm.config.max_positions}"
        )
    # One call for each dream, so that its samples are to the last bit those of the dream alone.
    return np.stack([samples(lm, config, config.population, seed, prefix, allowed, keep) for seed in seeds])


def samples(
    lm: LanguageModel,
    config: EPOConfig,
    count: int,
    seed: int,
    prefix: Int32[np.ndarray, " n"],
    allowed: Bool[np.ndarray, " V"] | None,
    keep: Keep | None,
) -> Int32[np.ndarray, "count T"]:
    """So many samples of one dream that may stay; see `init_model`."""
    # What the search draws at iteration 0, the start, is not drawn here: every iteration has a number of its own.
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 0)
    kept = np.zeros((0, config.length), np.int32)
    for number in range(ROUNDS):
        drawn = sample(lm, prefix, jax.random.fold_in(key, number), count, config.length, allowed=allowed)
        kept = np.concatenate([kept, drawn if keep is None else drawn[keep(drawn)]])
        if len(kept) >= count:
            return kept[:count]
    raise EpoError(
        f"--init={MODEL}: of {ROUNDS * count} samples only {len(kept)} satisfy the constraints, and {count} are "
        "needed; ask for fewer, lift a constraint, or start in another way"
    )


def _rows(path: Path, flag: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What a file says of each prompt, and where."""
    try:
        if path.is_dir():
            path = path / FRONTIER
        # Line breaks stay as they are, since prompts may hold any.
        content = path.read_bytes().decode("utf-8-sig")
    except (OSError, RuntimeError, ValueError) as error:
        raise EpoError(f"{flag}: cannot be read ({one_line(error)}); give a text, .jsonl or run folder") from error
    kind = path.suffix.lower()
    if kind == ".csv":
        try:
            table = list(csv.DictReader(io.StringIO(content, newline="")))
        except csv.Error as error:
            raise EpoError(f"{flag}: not readable as CSV ({one_line(error)})") from error
        for number, row in enumerate(table, start=1):
            where = f"{flag} row {number}"
            if not row.get("ids"):
                raise EpoError(f"{where}: has no ids; a frontier.csv has a column of that name")
            yield where, {**row, "ids": _json(row["ids"], where)}
    elif kind == ".json":
        rows = _json(content, flag)
        if not isinstance(rows, list):
            raise EpoError(f"{flag}: holds no list of prompts, as a frontier.json does")
        yield from ((f"{flag} prompt {number}", _record(row, flag)) for number, row in enumerate(rows, start=1))
    else:
        # Other characters that Unicode takes for line breaks may stand in a prompt.
        for number, line in enumerate(content.split("\n"), start=1):
            where, text = f"{flag} line {number}", line.removesuffix("\r")
            if text and kind == ".jsonl":
                yield where, _record(_json(text, where), where)
            elif text:
                yield where, {"text": text}


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EpoError(f"{where}: not readable as JSON ({one_line(error)})") from error


def _record(row: object, where: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise EpoError(f'{where}: holds {row!r:.40}, where {{"text": ...}} or {{"ids": [...]}} is read')
    return row


def _ids_of(lm: LanguageModel, row: Mapping[str, Any], where: str) -> list[int]:
    """The tokens of a prompt."""
    text, ids = row.get("text"), row.get("ids")
    if (text is not None and not isinstance(text, str)) or (text is None and ids is None):
        raise EpoError(f'{where}: has neither a "text" nor "ids"')
    if ids is None:
        return tokens_of(lm, str(text), where)
    if not isinstance(ids, list) or not all(type(token) is int for token in ids):
        raise EpoError(f"{where}: its ids are no list of whole numbers")
    known = min(lm.config.vocab_size, len(lm.tokenizer))
    if ids and not 0 <= min(ids) <= max(ids) < known:
        raise EpoError(f"{where}: its ids are outside the model's tokens 0 to {known - 1}")
    if text is not None and decode(lm.tokenizer, np.asarray(ids, np.int32)) != text:
        raise EpoError(f"{where}: its ids are not those of its text; it comes from a model with another tokenizer")
    return ids


def _check_length(lm: LanguageModel, config: EPOConfig, ids: list[int], where: str) -> None:
    if not config.shortest <= len(ids) <= config.length:
        texts = ", ".join(map(repr, token_texts(lm.tokenizer, ids)))
        least = f" and --least_length {config.shortest}" if config.shortest < config.length else ""
        raise EpoError(f"{where}: has {len(ids)} tokens ({texts}), and --length is {config.length}{least}")
