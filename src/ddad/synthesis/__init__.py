"""Anomalies made from normal images, split in *draw* (all randomness) and *apply* (pure): each can be replayed."""

from ddad.synthesis.patches import PatchDraw, apply_patches, draw_patches, patch_weights
from ddad.synthesis.poisson import apply_poisson_patches

__all__ = ["PatchDraw", "apply_patches", "apply_poisson_patches", "draw_patches", "patch_weights"]
