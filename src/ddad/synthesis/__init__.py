"""Anomalies made from normal images, split in *draw* (all randomness) and *apply* (pure): each can be replayed."""

from ddad.synthesis.cutpaste import CutPasteDraw, apply_cutpaste, draw_cutpaste, draw_scars
from ddad.synthesis.patches import PatchDraw, apply_patches, draw_patches, patch_weights
from ddad.synthesis.perlin import PerlinDraw, apply_perlin, draw_perlin
from ddad.synthesis.poisson import apply_poisson_patches, inside_rim

__all__ = [
    "CutPasteDraw",
    "PatchDraw",
    "PerlinDraw",
    "apply_cutpaste",
    "apply_patches",
    "apply_perlin",
    "apply_poisson_patches",
    "draw_cutpaste",
    "draw_patches",
    "draw_perlin",
    "draw_scars",
    "inside_rim",
    "patch_weights",
]
