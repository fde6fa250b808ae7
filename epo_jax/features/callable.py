"""`package.module:function`: a function of your own of what sites hold at every token of a prompt."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.errors import EpoError, one_line
from epo_jax.features.base import EVERY, Feature, Label, Places
from epo_jax.features.site_names import parse_site, site_shape
from epo_jax.models import LanguageModel
from epo_jax.models.decoder import PATTERN

FORM = "package.module:function"
_NAME = r"[^\W\d]\w*"
_PATTERN = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME})")

# {site: float32[S, ...]} -> float32
Function = Callable[[Mapping[str, Array]], Array]


def reads(*sites: str) -> Callable[[Function], Function]:
    """Declare the sites that a function reads: `@reads("blocks.3.hook_resid_post")`.

    Args:
        sites: their full names.

    Returns:
        A decorator that sets the function's attribute `sites` and leaves it as it is otherwise.
    """

    def declare(function: Function) -> Function:
        function.sites = sites  # type: ignore[attr-defined]
        return function

    return declare


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Called:
    """A function's number for a prompt.

    Attributes:
        layers: int32[n], of the sites that it reads.
        function: it maps each site's full name to float32[S, ...], all tokens of a sequence but a target, and gives a
            number; static.
        names: the sites' full names; static.
        observed: the same without their layers; static.
        shapes: of a token's value at each; of a pattern without the tokens that it attends to; static.
        tokens: S; 0 where it is not known yet; static.
        label: the feature string.
    """

    layers: Int32[Array, "*R n"]
    function: Function = dataclasses.field(metadata={"static": True})
    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    observed: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    shapes: tuple[tuple[int, ...], ...] = dataclasses.field(metadata={"static": True})
    tokens: int = dataclasses.field(metadata={"static": True})
    label: Label = dataclasses.field(metadata={"static": True})

    @property
    def name(self) -> str:
        """The feature string."""
        return self.label.text

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites of every block."""
        return tuple(dict.fromkeys(self.observed))

    @property
    def reads(self) -> tuple[str, ...]:
        """All tokens."""
        return (EVERY,)

    @property
    def target(self) -> Int32[Array, " m"]:
        """No tokens."""
        return jnp.zeros(0, jnp.int32)

    @property
    def depth(self) -> Int32[Array, "*R"]:
        """The last of the sites' layers."""
        return self.layers.max(axis=-1)

    def within(self, tokens: int) -> Called:
        """The same in sequences of so many tokens, for which the function is tried out."""
        found = dataclasses.replace(self, tokens=tokens)
        shapes = zip(self.names, found._shapes(), strict=True)
        inputs = {name: jax.ShapeDtypeStruct((tokens, *shape), jnp.float32) for name, shape in shapes}
        flag = f"--feature={self.name}"
        try:
            result = jax.eval_shape(self.function, inputs)
        except Exception as error:
            raise EpoError(
                f"{flag}: the function fails on {{site: float32[{tokens}, ...]}}: {type(error).__name__}: "
                f"{one_line(error)}"
            ) from error
        shape, dtype = getattr(result, "shape", None), getattr(result, "dtype", None)
        if shape != () or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            given = type(result).__name__ if shape is None else f"{dtype}{list(shape)}"
            raise EpoError(f"{flag}: the function gives {given}, where one floating number is read")
        return found

    def empty(self) -> tuple[Float32[Array, "..."], ...]:
        """Zeros, until the sites come by."""
        return tuple(jnp.zeros(shape, jnp.float32) for shape in self._shapes())

    def observe(
        self,
        kept: tuple[Float32[Array, "..."], ...],
        site: str,
        layer: Int32[Array, ""],
        value: Float[Array, "..."],
    ) -> tuple[Float32[Array, "..."], ...]:
        """Keep all numbers of the sites in their own blocks."""
        if site == PATTERN:
            # Frozen tokens that are run by themselves have no columns for later ones, which they do not see. A target,
            # whose columns come last, is not shown.
            value = jnp.pad(value, ((0, 0), (0, max(0, self.tokens - value.shape[1]))))[:, : self.tokens]
        return tuple(
            jnp.where(layer == self.layers[number], value.astype(jnp.float32), own) if name == site else own
            for number, (name, own) in enumerate(zip(self.observed, kept, strict=True))
        )

    def value(self, kept: tuple[Float32[Array, "..."], ...]) -> tuple[Float32[Array, "..."], ...]:
        """The numbers."""
        return kept

    def total(
        self,
        values: tuple[Float32[Array, "W ..."], ...],
        places: Places,
        before: tuple[Float32[Array, "n ..."], ...] | None,
    ) -> Float32[Array, ""]:
        """The function's number; tokens that a shorter prompt lacks are zeros."""

        def whole(number: int) -> Float32[Array, "S ..."]:
            own = values[number]
            own = jnp.where(places.every.reshape(-1, *(1,) * (own.ndim - 1)), own, 0)
            return (own if before is None else jnp.concatenate([before[number], own]))[: self.tokens]

        shown = {name: whole(number) for number, name in enumerate(self.names)}
        return jnp.asarray(self.function(shown), jnp.float32)

    def _shapes(self) -> list[tuple[int, ...]]:
        return [
            (*shape, self.tokens) if site == PATTERN else shape
            for site, shape in zip(self.observed, self.shapes, strict=True)
        ]


def parse(text: str, lm: LanguageModel) -> Feature | None:
    """The function that a feature string names, or None if it names none.

    The function has an attribute `sites`, a tuple of sites' full names (see `reads`), and must be made of JAX's
    functions, which are differentiated and mapped. Modules in the current folder are found, as with `python -m`.

    Raises:
        EpoError: no such module or function, one whose module fails, or sites that the model does not have.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    flag = f"--feature={text}"
    function = _imported(match[1], match[2], flag)
    names = getattr(function, "sites", None)
    if not isinstance(names, tuple) or not names or not all(isinstance(name, str) for name in names):
        raise EpoError(
            f'{flag}: needs an attribute sites, a tuple of full names such as ("blocks.3.hook_resid_post",), and has '
            f"{one_line(repr(names))}"
        )
    names = tuple(dict.fromkeys(names))
    found = [parse_site(name, lm, flag) for name in names]
    observed = tuple(site for site, _ in found)
    shapes = tuple((lm.config.heads,) if site == PATTERN else site_shape(site, lm.config) for site in observed)
    layers = jnp.asarray([layer for _, layer in found], jnp.int32)
    return Called(layers, function, names, observed, shapes, 0, Label(text))


def _imported(module: str, name: str, flag: str) -> Any:
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        # Last, so that nothing that is installed is hidden.
        sys.path.append(folder)
    try:
        function = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        missing = "" if error.name == module else f", which imports or lies in one that is not there, {error.name}"
        raise EpoError(f"{flag}: no module {module}{missing}; a function of yours is given as {FORM}") from error
    except Exception as error:
        raise EpoError(
            f"{flag}: module {module} cannot be imported: {type(error).__name__}: {one_line(error)}"
        ) from error
    if not callable(function) or isinstance(function, type):
        raise EpoError(f"{flag}: module {module} has no function {name}")
    if function.__hash__ is None:
        raise EpoError(f"{flag}: {name} is not hashable, which functions are")
    return function
