"""What a dream was asked for, and how it ended."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from epo_jax.config import EPOConfig
from epo_jax.constraints import Constraints
from epo_jax.dream.given import flags_of
from epo_jax.dream.starts import RANDOM
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.scale import NONE

# Among a run's versions: what a model of the hub was when it was loaded, since branches move on.
MODEL_COMMIT = "model commit"


@dataclasses.dataclass(frozen=True)
class Run:
    """All that reruns a dream, and how it ended.

    Attributes:
        model: name, file, folder or hub id of the model.
        feature: the feature string.
        search: the search's settings.
        seed: of all randomness.
        dtype: of the model's parameters.
        prefix: frozen text before the prompt.
        suffix: frozen text after it.
        bos: the template's BOS rule.
        init_text: text of the initial prompts; None for others.
        versions: of Python, packages and device.
        seconds: from the first iteration's start to the end, for all dreams that were advanced together.
        stopped: why the run ended before its last iteration; empty if it did not.
        read: where the feature is read: "last", "max" or a position.
        micro_batch: rows of tokens that evaluation runs as one block; None in runs of version 0.1.
        mesh: the devices that shared the work, such as "data:8"; empty for one.
        revision: of a model of the hub, the branch, tag or commit that was asked for; the commit that it stood for is
            in `versions`.
        scale: what objectives took the feature against: "none", "random" or a number.
        scale_offset: the value that counts as 0 in a scaled one.
        scale_unit: what scaled values are multiples of.
        fluency_model: the model whose cross-entropy counts; None for the first one.
        constraints: what prompts may be.
        init: what the initial prompts are if neither `init_text` nor `init_file` says it: "random" or "model".
        init_file: file or run folder of the initial prompts.
        fingerprints: of the models' weights and the feature's numbers, which tell apart what has one name; empty where
            no run folder was asked for.
    """

    model: str
    feature: str
    search: EPOConfig
    seed: int
    dtype: str
    prefix: str
    suffix: str
    bos: str
    init_text: str | None
    versions: Mapping[str, str]
    seconds: float = 0.0
    stopped: str = ""
    read: str = LAST
    micro_batch: int | None = None
    mesh: str = ""
    revision: str | None = None
    scale: str = NONE
    scale_offset: float = 0.0
    scale_unit: float = 1.0
    fluency_model: str | None = None
    constraints: Constraints = Constraints()  # noqa: RUF009 (frozen)
    init: str = RANDOM
    init_file: str | None = None
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command line that runs the dream again."""
        flags: dict[str, Any] = {"model": self.model}
        if self.revision is not None:
            flags["revision"] = self.revision
        flags["feature"] = self.feature
        search = self.search.to_json().items()
        flags |= {name: str(value).lower() if isinstance(value, bool) else value for name, value in search}
        flags |= {"prefix": self.prefix, "suffix": self.suffix, "bos": self.bos, "seed": self.seed, "dtype": self.dtype}
        if self.init_text is not None:
            flags["init_text"] = self.init_text
        if self.init != RANDOM:
            flags["init"] = self.init
        if self.init_file is not None:
            flags["init_file"] = self.init_file
        if self.read != LAST:
            flags["read"] = self.read
        if self.scale != NONE:
            flags["scale"] = self.scale
        if self.fluency_model is not None:
            flags["fluency_model"] = self.fluency_model
        if self.micro_batch is not None:
            flags["micro_batch"] = self.micro_batch
        flags["mesh"] = self.mesh
        listed = [(name, value) for name, value in flags.items() if value != ""] + flags_of(self.constraints)
        shown = (shlex.quote(f"--{name}={value}") for name, value in listed)
        return f"python -m epo_jax.dream {' '.join(shown)}"

    def to_json(self) -> dict[str, Any]:
        """The fields and the command as JSON values."""
        fields = {**dataclasses.asdict(self), "search": self.search.to_json()}
        return {**fields, "constraints": self.constraints.to_json(), "command": self.command}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Run:
        """The run that `to_json` gave."""
        fields = {name: value for name, value in values.items() if name != "command"}
        search = EPOConfig.from_json(fields["search"])
        return cls(**{**fields, "search": search, "constraints": Constraints.from_json(fields.get("constraints", {}))})
