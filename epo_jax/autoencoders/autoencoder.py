"""One sparse autoencoder: the numbers of a latent, and which latents are on together."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float32

from epo_jax.autoencoders.files import read_files
from epo_jax.autoencoders.settings import GATED, JUMPRELU, TOPK, Settings
from epo_jax.autoencoders.sources import find
from epo_jax.autoencoders.tensor_files import TensorFile, flagged, whole
from epo_jax.errors import EpoError, listed

ENCODER, DECODER, CENTER = "W_enc", "W_dec", "b_dec"
_BIAS, _THRESHOLD = "b_enc", "threshold"
_GATE, _MAGNITUDE, _LOG_GAIN = "b_gate", "b_mag", "r_mag"
# Of fine tuning; decoding alone multiplies by it.
_DECODING = {"scaling_factor", "finetuning_scaling_factor"}


@dataclasses.dataclass(frozen=True)
class LatentNumbers:
    """What one latent is made of, or, with a leading axis of all but the center, what all are.

    With x the value that is read, centered and normalized: p = gain * (encoder . (x - center) + bias). Of a gated one p
    is the gate, and magnitude_gain * (encoder . (x - center)) + magnitude_bias what it lets through.

    Attributes:
        encoder: float32[d_in], its column.
        center: float32[d_in], zeros where nothing is taken off.
        bias: of the encoder, or of the gate.
        gain: the norm of its decoder row where that counts, else 1.
        threshold: of JumpReLU, else 0.
        magnitude_gain: of a gated one, else 1.
        magnitude_bias: of a gated one, else 0.
    """

    encoder: Float32[np.ndarray, "*d_sae d_in"]
    center: Float32[np.ndarray, " d_in"]
    bias: float | Float32[np.ndarray, " d_sae"]
    gain: float | Float32[np.ndarray, " d_sae"] = 1.0
    threshold: float | Float32[np.ndarray, " d_sae"] = 0.0
    magnitude_gain: float | Float32[np.ndarray, " d_sae"] = 1.0
    magnitude_bias: float | Float32[np.ndarray, " d_sae"] = 0.0


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """A sparse autoencoder, whose matrices stay in their file.

    Attributes:
        settings: how it computes.
        file: its tensors.
    """

    settings: Settings
    file: TensorFile

    @property
    def d_in(self) -> int:
        """Numbers that it reads."""
        return self.file.shapes[ENCODER][0]

    @property
    def d_sae(self) -> int:
        """Its latents."""
        return self.file.shapes[ENCODER][1]

    def latent(self, index: int, flag: str) -> LatentNumbers:
        """The numbers of a latent.

        Raises:
            EpoError: no such latent, or numbers that are not finite.
        """
        if index >= self.d_sae:
            raise EpoError(f"{flag}: the autoencoder has no latent {index}; its latents are 0 to {self.d_sae - 1}")

        with flagged(flag):
            numbers = self._numbers(index)
        if not all(np.isfinite(value).all() for value in dataclasses.astuple(numbers)):
            raise EpoError(f"{flag}: {self.file.path}: latent {index} has numbers that are not finite")
        return numbers

    def every_latent(self, flag: str) -> LatentNumbers:
        """The numbers of all latents: encoders [d_sae, d_in], the center [d_in], all else [d_sae].

        Raises:
            EpoError: numbers that are not finite.
        """

        def each(name: str, used: bool, otherwise: float) -> Float32[np.ndarray, " d_sae"]:
            return whole(self.file, name) if used else np.full(self.d_sae, otherwise, np.float32)

        settings = self.settings
        gated = settings.architecture == GATED
        with flagged(flag):
            center = whole(self.file, CENTER)
            numbers = LatentNumbers(
                encoder=np.ascontiguousarray(whole(self.file, ENCODER).T),
                center=center if settings.subtract_center else np.zeros_like(center),
                bias=each(_GATE if gated else _BIAS, True, 0),
                gain=self._norms() if settings.rescale else np.ones(self.d_sae, np.float32),
                threshold=each(_THRESHOLD, settings.architecture == JUMPRELU, 0),
                magnitude_gain=np.exp(each(_LOG_GAIN, gated, 0)),
                magnitude_bias=each(_MAGNITUDE, gated, 0),
            )
        if not all(np.isfinite(value).all() for value in dataclasses.astuple(numbers)):
            raise EpoError(f"{flag}: {self.file.path} has numbers that are not finite")
        return numbers

    def top_k(self, inputs: Float32[np.ndarray, "n d_in"], index: int) -> Float32[np.ndarray, " n"]:
        """Activations of a latent of a top-k autoencoder, which depend on all others.

        The encoder passes by once for all rows, in blocks.

        Args:
            inputs: values that are read, centered and normalized, without the center's subtraction.
            index: the latent.
        """
        assert self.settings.k is not None
        center = whole(self.file, CENTER) if self.settings.subtract_center else np.zeros(self.d_in, np.float32)
        pre = np.broadcast_to(whole(self.file, _BIAS), (len(inputs), self.d_sae)).copy()
        start = 0
        for block in self.file.blocks(ENCODER):
            columns = slice(start, start := start + len(block))
            pre += (inputs[:, columns] - center[columns]) @ block
        if self.settings.rescale:
            pre *= self._norms()
        own = pre[:, index]
        above = (pre > own[:, None]).sum(axis=1)
        return np.where(above < self.settings.k, np.maximum(own, 0), np.float32(0))

    def _numbers(self, index: int) -> LatentNumbers:
        def entry(name: str) -> float:
            return float(whole(self.file, name)[index])

        gated = self.settings.architecture == GATED
        center = whole(self.file, CENTER)
        return LatentNumbers(
            encoder=self.file.column(ENCODER, index),
            center=center if self.settings.subtract_center else np.zeros_like(center),
            bias=entry(_GATE if gated else _BIAS),
            gain=float(self._norms()[index]) if self.settings.rescale else 1.0,
            threshold=entry(_THRESHOLD) if self.settings.architecture == JUMPRELU else 0.0,
            magnitude_gain=float(np.exp(entry(_LOG_GAIN))) if gated else 1.0,
            magnitude_bias=entry(_MAGNITUDE) if gated else 0.0,
        )

    def _norms(self) -> Float32[np.ndarray, " d_sae"]:
        return np.concatenate([np.linalg.norm(block, axis=1) for block in self.file.blocks(DECODER)])


def open_autoencoder(name: str, flag: str) -> Autoencoder:
    """An autoencoder from a folder, a release of sae-lens or the hub.

    Args:
        name: what stands between "sae:" and the last colon.
        flag: what errors start with.

    Raises:
        EpoError: none of that name, or one that cannot be used.
    """
    settings, file = read_files(find(name, flag), flag)
    _check_shapes(settings, file, flag)
    return Autoencoder(settings, file)


def _check_shapes(settings: Settings, file: TensorFile, flag: str) -> None:
    shapes = file.shapes
    own = {GATED: (_GATE, _MAGNITUDE, _LOG_GAIN), JUMPRELU: (_BIAS, _THRESHOLD)}.get(settings.architecture, (_BIAS,))
    needed = {ENCODER, DECODER, CENTER, *own}
    missing, unknown = needed - set(shapes), set(shapes) - needed - _DECODING
    start = f"{flag}: {file.path}"
    if missing or unknown:
        faults = [f"lacks {listed(missing)}"] * bool(missing) + [f"has the unknown {listed(unknown)}"] * bool(unknown)
        raise EpoError(f"{start} {' and '.join(faults)}; of {settings.architecture} ones {listed(needed)} are read")
    if len(shapes[ENCODER]) != 2 or 0 in shapes[ENCODER]:
        raise EpoError(f"{start}: {ENCODER} has shape {shapes[ENCODER]}, where a matrix is read")
    d_in, d_sae = shapes[ENCODER]
    for said, size, key in ((settings.d_in, d_in, "d_in"), (settings.d_sae, d_sae, "d_sae")):
        if said is not None and said != size:
            raise EpoError(f"{start}: {ENCODER} has shape {(d_in, d_sae)}, and the configuration says {key}={said}")
    expected = {DECODER: (d_sae, d_in), CENTER: (d_in,), **dict.fromkeys(own, (d_sae,))}
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise EpoError(f"{start}: {name} has shape {shapes[name]}, where {shape} fits {ENCODER}")
    if settings.architecture == TOPK and settings.k is not None and settings.k > d_sae:
        raise EpoError(f"{start}: k={settings.k} is more than its {d_sae} latents")
