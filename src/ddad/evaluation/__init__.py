"""How good are scores and maps: of whole images, and pixel by pixel."""

from ddad.evaluation.image_metrics import ImageMetrics, Interval, image_metrics
from ddad.evaluation.mask_grid import mask_on_grid
from ddad.evaluation.pixel_metrics import PixelMetrics, pixel_metrics

__all__ = ["ImageMetrics", "Interval", "PixelMetrics", "image_metrics", "mask_on_grid", "pixel_metrics"]
