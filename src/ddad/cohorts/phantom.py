"""Images made by program: brain-like slices, some with a lesion, to try everything without a patient.

Split in *draw* (all randomness, kept in frozen records) and *render* (pure; even the noise has a drawn
seed), so that every phantom can be replayed, also without its lesion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ddad.errors import SettingError

Field = npt.NDArray[np.floating[Any]]
Kind = Literal["tumour", "infarct", "spots", "ring", "atrophy"]
Waves = tuple[tuple[float, float, float], ...]

SMALLEST_SIZE = 48
SLICES_A_PATIENT = 2
_CORTEX = 0.86
_VENTRICLES_END = 0.8
# Caudate, putamen and thalamus: place beside the midline, half width, half length.
_NUCLEI = ((0.17, 0.20, 0.065, 0.1), (0.3, 0.04, 0.055, 0.16), (0.11, -0.1, 0.085, 0.12))


class Tissue(NamedTuple):
    """How bright each tissue is, before bias and noise."""

    scalp: float
    skull: float
    fluid: float
    grey: float
    white: float
    deep: float
    oedema: float
    tumour: float
    infarct: float
    necrosis: float
    ring: float


# One protocol, T1-weighted: a cohort of mixed contrasts would show the contrast, not the lesion.
_T1 = Tissue(0.80, 0.12, 0.14, 0.46, 0.68, 0.55, 0.36, 0.80, 0.24, 0.22, 0.85)


@dataclass(frozen=True)
class Anatomy:
    """What the slices of one patient share. Lengths are in half image widths."""

    tissue: Tissue
    width: float
    length: float
    egg: float
    ventricle: float
    sulcus: float
    fold_depth: float
    folds: Waves
    bends: Waves
    grain: Waves


@dataclass(frozen=True)
class Pose:
    """What differs between slices: height (0 at the basal ganglia, 1 near the top), position, scanner."""

    height: float
    angle: float
    shift: tuple[float, float]
    scale: float
    asymmetry: float
    bias: tuple[float, float, float, float]
    gain: float
    blur: float
    noise: float


@dataclass(frozen=True)
class Lesion:
    """One lesion; which fields matter depends on its kind.

    `radius` is that of the core, or half the angle of an infarct; `push` is the mass effect, as a share
    of the distance; `strength` is the opacity, or how many times wider atrophy makes the ventricles.
    """

    kind: Kind
    x: float
    y: float
    radius: float
    halo: float
    push: float
    strength: float
    border: Waves
    spots: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Phantom:
    """All that is needed to render one image again; `lesion` is None for a normal one."""

    anatomy: Anatomy
    pose: Pose
    lesion: Lesion | None
    noise_seed: int


def draw_phantom(seed: int, index: int, *, abnormal: bool) -> Phantom:
    """Draw one phantom; indices 2k and 2k + 1 are slices of one patient.

    The anatomy and the noise of an index are the same with and without a lesion.
    """
    patient, number = divmod(index, SLICES_A_PATIENT)
    own = [seed, patient, 1 + number]
    pose = _draw_pose(np.random.default_rng(own))
    lesion = _draw_lesion(np.random.default_rng([*own, 1]), pose.height) if abnormal else None
    noise_seed = int(np.random.default_rng([*own, 2]).integers(2**63))
    return Phantom(_draw_anatomy(np.random.default_rng([seed, patient, 0])), pose, lesion, noise_seed)


def _draw_anatomy(rng: np.random.Generator) -> Anatomy:
    return Anatomy(
        tissue=Tissue(*(value * rng.uniform(0.97, 1.03) for value in _T1)),
        width=rng.uniform(0.73, 0.77),
        length=rng.uniform(0.90, 0.93),
        egg=rng.uniform(0.05, 0.09),
        ventricle=rng.uniform(0.9, 1.2),
        sulcus=rng.uniform(0.9, 1.2),
        fold_depth=rng.uniform(0.27, 0.31),
        folds=tuple((float(n), rng.normal(0, 4), rng.uniform(0, 2 * np.pi)) for n in rng.integers(7, 15, 6)),
        bends=_draw_waves(rng, 4, 2.0, 5.0),
        grain=_draw_waves(rng, 6, 10.0, 30.0),
    )


def _draw_pose(rng: np.random.Generator) -> Pose:
    return Pose(
        height=rng.uniform(0.2, 0.6),
        angle=rng.normal(0, 0.035),
        shift=(rng.normal(0, 0.01), rng.normal(0, 0.01)),
        scale=rng.uniform(0.96, 1.0),
        asymmetry=rng.normal(0, 0.008),
        bias=(rng.normal(0, 0.03), rng.normal(0, 0.03), rng.normal(0, 0.03), rng.normal(0, 0.03)),
        gain=rng.uniform(0.85, 0.93),
        blur=rng.uniform(0.5, 0.6),
        noise=rng.uniform(0.024, 0.036),
    )


def _draw_lesion(rng: np.random.Generator, height: float) -> Lesion:
    kinds: tuple[Kind, ...] = ("tumour", "infarct", "spots", "ring", "atrophy")
    kind = kinds[rng.integers(5 if height < 0.75 * _VENTRICLES_END else 4)]
    around, out = rng.uniform(0, 2 * np.pi), rng.uniform(0.22, 0.45)
    polar = rng.uniform((0, 0.18, 0.045), (2 * np.pi, 0.42, 0.08), (rng.integers(5, 11), 3)).tolist()
    return Lesion(
        kind=kind,
        x=0.85 * out * math.cos(around),
        y=out * math.sin(around),
        radius=rng.uniform(0.25, 0.55) if kind == "infarct" else rng.uniform(0.11, 0.25),
        halo=rng.uniform(0.03, 0.1),
        push=rng.uniform(0.1, 0.3) if kind in ("tumour", "ring") else 0.0,
        strength=rng.uniform(1.6, 2.1) if kind == "atrophy" else rng.uniform(0.8, 1.0),
        border=_draw_waves(rng, 4, 6.0, 18.0),
        spots=tuple((0.85 * far * math.cos(turn), far * math.sin(turn), size) for turn, far, size in polar),
    )


def _draw_waves(rng: np.random.Generator, count: int, low: float, high: float) -> Waves:
    drawn = rng.uniform((0, low, 0), (2 * np.pi, high, 2 * np.pi), (count, 3)).tolist()
    return tuple((length * math.cos(turn), length * math.sin(turn), phase) for turn, length, phase in drawn)


def render_phantom(phantom: Phantom, size: int = 96) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Render a phantom as an 8-bit image and the mask of its lesion (all false without one).

    Raises:
        SettingError: the image would be too small to hold the anatomy.
    """
    if size < SMALLEST_SIZE:
        raise SettingError(f"size is {size}; a phantom needs at least {SMALLEST_SIZE} pixels.")
    anatomy, pose, lesion = phantom.anatomy, phantom.pose, phantom.lesion
    step = 2.0 / size
    axis = (np.arange(size, dtype=np.float32) + 0.5) * step - 1
    x, y = axis[None, :], -axis[:, None]
    right, front = _to_head(x, y, pose)
    brain_right, brain_front = (right, front) if lesion is None else _pushed(right, front, anatomy, lesion)
    picture, mask = _tissues(brain_right, brain_front, anatomy, pose, lesion, 1.2 * step)
    if lesion is not None and lesion.kind != "atrophy":
        inside = _below(_radius(right, front, anatomy), _CORTEX - 0.01, 1.2 * step)
        picture, mask = _with_lesion(picture, right, front, inside, anatomy.tissue, lesion, step)
    b = pose.bias
    picture = picture * (1 + b[0] * x + b[1] * y + b[2] * (x * x - y * y) + b[3] * x * y)
    picture = ndimage.gaussian_filter(picture, pose.blur * size / 96) * np.float32(pose.gain)
    noise = np.random.default_rng(phantom.noise_seed).normal(0, pose.noise, (2, size, size))
    # Magnitude of a complex signal with noise in both parts: Rician, as in a scanner.
    levels = np.rint(255 * np.hypot(picture + noise[0], noise[1]))
    return np.clip(levels, 0, 255).astype(np.uint8), mask


def _to_head(x: Field, y: Field, pose: Pose) -> tuple[Field, Field]:
    cos, sin = np.cos(pose.angle) / pose.scale, np.sin(pose.angle) / pose.scale
    x, y = x - pose.shift[0], y - pose.shift[1]
    # Heads get narrower towards the top.
    narrow = 1 + 0.12 * pose.height**2
    right, front = (cos * x + sin * y) * narrow, (cos * y - sin * x) * narrow
    right = right + pose.asymmetry * np.cos(3 * front) - pose.asymmetry * right * 2
    return right.astype(np.float32), front.astype(np.float32)


def _radius(right: Field, front: Field, anatomy: Anatomy) -> Field:
    """1 on the skin, 0 in the middle; the back of the head is wider than the forehead."""
    radius: Field = np.hypot(right / (anatomy.width * (1 - anatomy.egg * front)), front / anatomy.length)
    return radius


def _pushed(right: Field, front: Field, anatomy: Anatomy, lesion: Lesion) -> tuple[Field, Field]:
    """Where the tissue at each place was before the lesion pushed it; the skull stays."""
    dx, dy = right - lesion.x, front - lesion.y
    soft = np.clip((_CORTEX - _radius(right, front, anatomy)) / 0.2, 0, 1)
    share = lesion.push * np.exp(-(dx * dx + dy * dy) / (2.2 * lesion.radius) ** 2) * soft
    return right - share * dx, front - share * dy


def _tissues(
    right: Field, front: Field, anatomy: Anatomy, pose: Pose, lesion: Lesion | None, edge: float
) -> tuple[Field, npt.NDArray[np.bool_]]:
    """The picture of the tissues, and the mask of what is ventricle only because of atrophy."""
    tissue, radius = anatomy.tissue, _radius(right, front, anatomy)
    bend_right = right + 0.01 * _sum_of_waves(right, front, anatomy.bends[:2])
    bend_front = front + 0.01 * _sum_of_waves(right, front, anatomy.bends[2:])
    depth = _CORTEX - radius
    # Sulci run where this is zero: waves around the head that lean and wander as they go inwards.
    around = np.arctan2(bend_front / anatomy.length, bend_right / anatomy.width)
    around = around + 0.07 * _sum_of_waves(bend_right, bend_front, anatomy.grain[:3])
    fold = _sum_of_waves(around, radius, anatomy.folds) * np.float32(math.sqrt(2 / len(anatomy.folds)))
    side = np.abs(bend_right)
    picture = _blend(0.01, tissue.scalp, _below(radius, 1.0, edge))
    picture = _blend(picture, tissue.skull, _below(radius, 0.945, edge))
    picture = _blend(picture, 2.2 * tissue.skull, 0.7 * _below(np.abs(radius - 0.915), 0.006, edge))
    picture = _blend(picture, tissue.fluid, _below(radius, 0.885, edge))
    picture = _blend(picture, tissue.grey, _below(radius, _CORTEX - 0.02 * np.exp(-6 * fold * fold), edge))
    buried = np.clip(1 - depth / anatomy.fold_depth, 0, 1)
    ribbon = np.minimum(depth - 0.06, (np.abs(fold) - 1.05 * buried**0.6) * 0.06)
    white = tissue.white + 0.008 * _sum_of_waves(right, front, anatomy.grain)
    picture = _blend(picture, white, _below(-ribbon, 0, edge))
    sulci = np.abs(fold) * 0.06 - 0.016 * anatomy.sulcus * np.clip(buried * 1.25 - 0.25, 0, 1)
    inside = _below(radius, _CORTEX, edge)
    picture = _blend(picture, tissue.fluid, 0.85 * _below(sulci, -0.3 * edge, edge) * inside)
    reach = 1 - _below(np.abs(bend_front - 0.02), 0.42 - 0.5 * max(0.0, pose.height - 0.45), 0.1)
    picture = _blend(picture, tissue.grey, _below(side, 0.06, edge) * reach * inside)
    picture = _blend(picture, tissue.fluid, _below(side, 0.012 * anatomy.sulcus, edge) * reach * inside)
    low = float(np.clip(1 - pose.height / 0.5, 0, 1))
    picture = _basal(picture, side, bend_front, anatomy, low, edge)
    growth = lesion.strength if lesion is not None and lesion.kind == "atrophy" else 1.0
    normal = _ventricles(side, bend_front, anatomy.ventricle, pose.height, edge)
    wide = _ventricles(side, bend_front, anatomy.ventricle * growth, pose.height, edge)
    return _blend(picture, tissue.fluid, wide), (wide > 0.5) & (normal < 0.5)


def _basal(picture: Field, side: Field, front: Field, anatomy: Anatomy, low: float, edge: float) -> Field:
    """Caudate, putamen, thalamus, insula and third ventricle, which fade towards the top of the head."""
    tissue = anatomy.tissue
    fissure = np.minimum(
        _segment(side, front, (0.43, -0.14), (0.45, 0.15)), _segment(side, front, (0.44, 0.02), (0.62, -0.03))
    )
    picture = _blend(picture, tissue.grey, low * _below(fissure, 0.05, edge))
    picture = _blend(picture, tissue.fluid, 0.9 * low * _below(fissure, 0.012 * anatomy.sulcus, edge))
    for x, y, width, length in _NUCLEI:
        away = (np.hypot((side - x) / width, (front - y) / length) - 1) * width
        picture = _blend(picture, tissue.deep, low**0.5 * _below(away, 0, edge))
    third = _below(_segment(side, front, (0.0, 0.0), (0.0, -0.16)), 0.018 * anatomy.ventricle, edge)
    return _blend(picture, tissue.fluid, low**0.5 * third)


def _ventricles(side: Field, front: Field, wide: float, height: float, edge: float) -> Field:
    if height >= _VENTRICLES_END:
        return np.zeros_like(side)
    body = height / _VENTRICLES_END
    along = front - 0.03
    # Two bows that part towards the forehead and, wider, towards the back.
    spread = np.where(along > 0, 1.3 - 0.5 * body, 2.3 - 1.7 * body)
    middle = 0.06 + 0.02 * body + spread * along * along
    aside = (side - middle) / np.hypot(1, 2 * spread * along)
    away = np.hypot(aside, np.maximum(0, np.abs(along + 0.03) - 0.25 + 0.04 * body))
    thick = 0.044 * wide * (1 - body) ** 0.4 * (1 + 0.35 * np.sin(9 * along) * (1 - body))
    # A thin leaf, the septum, keeps both sides apart.
    return _below(away - thick, 0, edge) * _below(-side, -0.008, edge)


def _with_lesion(
    picture: Field, right: Field, front: Field, inside: Field, tissue: Tissue, lesion: Lesion, step: float
) -> tuple[Field, npt.NDArray[np.bool_]]:
    rough, edge = _sum_of_waves(right, front, lesion.border), 2 * step
    if lesion.kind == "infarct":
        ahead = np.arctan2(front, right) - np.arctan2(lesion.y, lesion.x)
        turn = np.abs(np.angle(np.exp(1j * ahead))) + 0.04 * rough
        reach = np.hypot(right, front) + 0.015 * rough
        cover = _below((turn - lesion.radius) * reach, 0, edge) * _below(-reach, -0.3, edge) * inside
        return _blend(picture, tissue.infarct, 0.75 * lesion.strength * cover), cover > 0.5
    if lesion.kind == "spots":
        gaps = [np.hypot(right - x, front - y) - radius for x, y, radius in lesion.spots]
        cover = _below(np.min(gaps, axis=0) + 0.004 * rough, 0, edge) * inside
        return _blend(picture, tissue.oedema, lesion.strength * cover), cover > 0.5
    away = np.hypot(right - lesion.x, front - lesion.y) + 0.09 * lesion.radius * rough
    halo = _below(away + 0.012 * rough, lesion.radius + lesion.halo, lesion.halo + edge) * inside
    picture = _blend(picture, tissue.oedema, 0.8 * lesion.strength * halo)
    core = _below(away, lesion.radius, edge) * inside
    picture = _blend(picture, tissue.ring if lesion.kind == "ring" else tissue.tumour, lesion.strength * core)
    if lesion.kind == "ring":
        dead = lesion.strength * inside * _below(away, 0.66 * lesion.radius, edge)
        picture = _blend(picture, tissue.necrosis, dead)
    return picture, np.maximum(halo, core) > 0.5


def _sum_of_waves(x: Field, y: Field, waves: Waves) -> Field:
    total = np.zeros_like(x)
    for a, b, phase in waves:
        total += np.sin(np.float32(a) * x + np.float32(b) * y + np.float32(phase))
    return total


def _below(field: Field, limit: float | Field, edge: float) -> Field:
    """1 where the field is below the limit, 0 above, with a linear edge that keeps borders smooth."""
    return np.clip((limit - field) / np.float32(edge) + np.float32(0.5), 0, 1)


def _blend(picture: Field | float, value: Field | float, cover: Field) -> Field:
    return np.asarray(picture + (value - picture) * cover, dtype=np.float32)


def _segment(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float]) -> Field:
    """Distance to the line between two points."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)
