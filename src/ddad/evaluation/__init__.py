"""How good are scores and maps: of whole images, pixel by pixel, and one method beside another."""

from ddad.evaluation.delong import PairedTest, delong_test
from ddad.evaluation.holm import holm
from ddad.evaluation.image_metrics import ImageMetrics, image_metrics
from ddad.evaluation.intervals import Interval
from ddad.evaluation.mask_grid import mask_on_grid
from ddad.evaluation.paired_bootstrap import Resampled, paired_bootstrap
from ddad.evaluation.pixel_metrics import PixelMetrics, pixel_metrics

__all__ = [
    "ImageMetrics",
    "Interval",
    "PairedTest",
    "PixelMetrics",
    "Resampled",
    "delong_test",
    "holm",
    "image_metrics",
    "mask_on_grid",
    "paired_bootstrap",
    "pixel_metrics",
]
