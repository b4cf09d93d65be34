"""The sections of a recipe: the settings of each part, with their ranges and meanings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

Backbone = Literal["ae", "memae", "ae-u", "vae"]
Aspect = Literal["squash", "pad", "crop"]
Supervision = Literal["image", "places"]


class Section(BaseModel):
    """A part of a recipe: unknown fields are refused, values cannot be changed in place."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _a_pair(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be two numbers, low then high, written as [0.1, 0.5]")
    return value


Pair = Annotated[tuple[float, float], BeforeValidator(_a_pair)]


def _ordered_shares(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= value[0] <= value[1] <= 1:
        raise ValueError("must be two shares of the width, low then high, within 0 and 1")
    return value


class Preprocessing(Section):
    """How a file becomes the network's input, (C, S, S) in [-1, 1]."""

    image_size: int = Field(64, ge=16, le=512, description="side S of the square input, a multiple of 16")
    channels: Literal[1, 3] = Field(1, description="1: grey (colour is converted), 3: colour")
    intensity: Literal["window", "percentile", "minmax"] = Field(
        "window",
        description="what becomes -1 and 1: the file's window or the range of its type (of NIfTI, and DICOM of more "
        "than 8 bits, without a window: as percentile), the image's 0.5th and 99.5th percentile, or its extremes",
    )
    aspect: Aspect = Field(
        "squash",
        description="how an image becomes a square: squash all of it, pad it with black, or crop its centre",
    )
    resize: Literal["bilinear", "area"] = Field(
        "bilinear", description="how pixels are averaged: antialiased bilinear, or the mean of the area"
    )
    black_border: bool = Field(False, description="make what is nearly black and touches the image's edge wholly black")

    @field_validator("image_size")
    @classmethod
    def _multiple_of_16(cls, value: int) -> int:
        if value % 16:
            below, above = value // 16 * 16, (value // 16 + 1) * 16
            raise ValueError(f"must be a multiple of 16 (try {max(below, 16)} or {min(above, 512)})")
        return value


class Reconstruction(Section):
    """Stage 1: the networks of NDM and UDM (section 3.2) and how they are trained."""

    backbone: Backbone = Field("ae-u", description="ae, memae or ae-u (section 4.2), or vae")
    members: int = Field(3, ge=1, le=64, description="K, the networks in each of NDM and UDM")
    latent_size: int = Field(16, ge=1, le=4096, description="length of the code between encoder and decoder")
    memory_slots: int = Field(25, ge=2, le=10_000, description="memae: number of memory items")
    memory_entropy_weight: float = Field(2e-4, ge=0, description="memae: weight of the addressing entropy")
    ndm_epochs: int = Field(250, ge=1, description="passes of each NDM network over the normal images")
    udm_epochs: int = Field(250, ge=1, description="passes of each UDM network over the normal and unlabeled images")
    batch_size: int = Field(64, ge=2, description="images a step")
    least_steps: int = Field(5, ge=1, description="steps of an epoch at least; few images are gone over several times")
    move_below: int = Field(
        0,
        ge=0,
        description="with fewer normal images than this, images are turned, scaled and shifted a little, anew each "
        "time that they are learned from; 0: never",
    )
    learning_rate: float = Field(5e-4, gt=0, le=1, description="Adam's learning rate, the peak if scheduled")
    schedule: Literal["constant", "one-cycle"] = Field("constant", description="learning rate over time")
    momentum: float = Field(0.5, ge=0, lt=1, description="Adam's first beta; the second is 0.999")


MEMORY_FIELDS = ("reconstruction.memory_slots", "reconstruction.memory_entropy_weight")
"""What only the backbone `memae` reads."""


class Synthesis(Section):
    """Foreign patch interpolation (equations 9 and 10), in shares of the image's width d."""

    untouched_share: float = Field(0.5, ge=0, lt=1, description="training images left without a patch")
    half_width: Pair = Field((0.05, 0.2), description="range of the patch's half-width / d")
    centre: Pair = Field((0.1, 0.9), description="range of the patch's centre / d")

    @field_validator("half_width", "centre")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        return _ordered_shares(value)


class Refinement(Section):
    """Stage 2: ASR-Net (section 3.5) and how it is trained."""

    network: Literal["published", "anchored"] = Field(
        "published", description="plain ASR-Net, or one whose image score stays that of its input"
    )
    width: int = Field(128, ge=4, le=1024, description="channels of the hidden layers")
    epochs: int = Field(100, ge=1, description="passes over the normal images")
    batch_size: int = Field(8, ge=1, description="images a step")
    least_steps: int = Field(40, ge=1, description="steps of an epoch at least; few images are gone over several times")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="Adam's learning rate, the peak if scheduled")
    schedule: Literal["constant", "one-cycle"] = Field("constant", description="learning rate over time")
    momentum: float = Field(0.5, ge=0, lt=1, description="Adam's first beta; the second is 0.999")
    weight_decay: float = Field(1e-4, ge=0, description="Adam's L2 penalty")
    focal_gamma: float = Field(2.0, ge=0, description="focusing parameter of the focal loss (equation 12)")


class Augmentation(Section):
    """How an image's appearance is changed in training, so that nothing is learned from its technique."""

    rotation: float = Field(15.0, ge=0, le=180, description="degrees, to either side")
    scale: float = Field(0.15, ge=0, le=1, description="larger or smaller by up to this share")
    shift: float = Field(0.08, ge=0, le=0.5, description="share of the width, in each direction")
    flip_share: float = Field(0.5, ge=0, le=1, description="images mirrored left to right")
    gamma: float = Field(0.4, ge=0, le=4, description="the exponent of grey is up to this share larger or smaller")
    contrast: float = Field(0.2, ge=0, le=4, description="up to this share more or less")
    brightness: float = Field(0.1, ge=0, le=1, description="added or taken away, of the grey range")
    blur: float = Field(1.0, ge=0, le=1, description="largest share of a blurred copy that is mixed in")
    noise: float = Field(0.05, ge=0, le=1, description="largest standard deviation of noise, of the grey range")


class Classification(Section):
    """The classifiers of the detectors `normal-vs-unlabeled` and `ddad+`."""

    members: int = Field(2, ge=1, le=64, description="networks whose logits are averaged")
    width: int = Field(32, ge=4, le=1024, description="channels after the first convolution")
    epochs: int = Field(50, ge=1, description="passes over the normal and unlabeled images")
    batch_size: int = Field(64, ge=2, description="images a step")
    least_steps: int = Field(8, ge=1, description="steps of an epoch at least; few images are gone over several times")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="peak of Adam's one-cycle learning rate")
    weight_decay: float = Field(1e-4, ge=0, description="Adam's L2 penalty")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="how far labels are drawn towards one half")
    supervision: Supervision = Field(
        "places",
        description="what is compared with an image's label: its logit (image), or the logit of each place of the "
        "grid whose mean that is (places)",
    )


class Segmentation(Section):
    """The networks of `draem`, `fpi`, `pii` and the maps of `ddad+`; patches of `fpi` and `pii` are in `synthesis`."""

    width: int = Field(16, ge=4, le=256, description="channels of the first of four levels")
    epochs: int = Field(40, ge=1, description="passes over the normal images, for ddad+ over all images")
    batch_size: int = Field(16, ge=2, description="images a step")
    least_steps: int = Field(16, ge=1, description="steps of an epoch at least; few images are gone over several times")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="peak of Adam's one-cycle learning rate")


class FAnoGAN(Section):
    """The networks of the detector `f-anogan`."""

    width: int = Field(16, ge=4, le=256, description="channels of the layers nearest to the image")
    latent_size: int = Field(128, ge=1, le=4096, description="length of the generator's code")
    gan_epochs: int = Field(100, ge=1, description="passes of the critic over the normal images")
    encoder_epochs: int = Field(100, ge=1, description="passes of the encoder over the normal images")
    batch_size: int = Field(16, ge=2, description="images a step")
    least_steps: int = Field(16, ge=1, description="steps of an epoch at least; few images are gone over several times")
    critic_steps: int = Field(1, ge=1, description="steps of the critic for one of the generator")
    penalty_weight: float = Field(10.0, gt=0, description="weight of the gradient penalty")
    feature_weight: float = Field(1.0, ge=0, description="κ, weight of the critic's features beside the pixels")
    critic_learning_rate: float = Field(3e-4, gt=0, le=1, description="Adam's learning rate of the critic")
    generator_learning_rate: float = Field(1e-4, gt=0, le=1, description="Adam's learning rate of the generator")
    encoder_learning_rate: float = Field(1e-3, gt=0, le=1, description="peak of Adam's one-cycle learning rate")


class GANomaly(Section):
    """The networks of the detector `ganomaly`."""

    width: int = Field(16, ge=4, le=256, description="channels of the layers nearest to the image")
    latent_size: int = Field(100, ge=1, le=4096, description="length of the code z")
    epochs: int = Field(45, ge=1, description="passes over the normal images")
    batch_size: int = Field(32, ge=2, description="images a step")
    least_steps: int = Field(8, ge=1, description="steps of an epoch at least; few images are gone over several times")
    learning_rate: float = Field(2e-4, gt=0, le=1, description="Adam's learning rate")
    adversarial_weight: float = Field(1.0, ge=0, description="weight of the discriminator's features")
    contextual_weight: float = Field(50.0, ge=0, description="weight of the absolute error of the image")
    encoder_weight: float = Field(1.0, ge=0, description="weight of the distance between both codes")


class IGD(Section):
    """The networks of the detector `igd`."""

    width: int = Field(16, ge=4, le=256, description="channels of the layers nearest to the image")
    latent_size: int = Field(128, ge=1, le=4096, description="length of the code z")
    epochs: int = Field(100, ge=1, description="passes over the normal images")
    batch_size: int = Field(16, ge=2, description="images a step")
    least_steps: int = Field(16, ge=1, description="steps of an epoch at least; few images are gone over several times")
    learning_rate: float = Field(5e-4, gt=0, le=1, description="Adam's learning rate, from which it falls to zero")
    structure_weight: float = Field(0.85, ge=0, le=1, description="share of MS-SSIM beside the absolute error")
    interpolation_weight: float = Field(0.1, ge=0, description="weight of what the critic says of interpolations")
    estimation_epochs: int = Field(10, ge=1, description="passes between two estimates of the Gaussian")


class CutPasteClassification(Section):
    """The network of the detector `cutpaste`, and the patches that it learns to see."""

    width: int = Field(16, ge=4, le=256, description="channels of the first of four stages of ResNet-18")
    epochs: int = Field(100, ge=1, description="passes over the normal images, in each of the three classes")
    batch_size: int = Field(32, ge=2, description="normal images a step")
    least_steps: int = Field(8, ge=1, description="steps of an epoch at least; few images are gone over several times")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="peak of Adam's one-cycle learning rate")
    weight_decay: float = Field(3e-5, ge=0, description="Adam's L2 penalty")
    area: Pair = Field((0.02, 0.15), description="range of the patch's area / the image's")
    aspect: float = Field(0.3, gt=0, le=1, description="flattest patch, height / width; the steepest is its inverse")
    scar_width: Pair = Field((2 / 256, 16 / 256), description="range of the scar's width / d")
    scar_length: Pair = Field((10 / 256, 25 / 256), description="range of the scar's length / d")
    scar_rotation: float = Field(45.0, ge=0, le=90, description="degrees, to either side")
    jitter: float = Field(0.1, ge=0, le=1, description="largest change of contrast and brightness, of image and patch")
    shift: float = Field(0.04, ge=0, le=0.5, description="largest shift of the image, share of the width")

    @field_validator("area", "scar_width", "scar_length")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        return _ordered_shares(value)


class Fusion(Section):
    """How the detector `ddad+` joins DDAD with classifiers of normal against unlabeled images."""

    folds: int = Field(
        4,
        ge=2,
        le=20,
        description="parts of the images, each with classifiers trained without it; fewer parts where they would have "
        "fewer than 10 groups",
    )
    holdout: float = Field(
        0.2, gt=0, le=0.5, description="share of the images that DDAD leaves out, to find the weights"
    )


class Trimming(Section):
    """The unsupervised mode: which unlabeled images are trusted to be normal, where none is known to be."""

    trusted: float = Field(0.8, gt=0, le=1, description="share of the unlabeled images that are trusted to be normal")
    rounds: int = Field(
        2, ge=1, le=20, description="how often the trusted images are chosen, by DDAD fitted on those chosen before"
    )
    folds: int = Field(3, ge=2, le=20, description="parts; each is judged by DDAD fitted on the others")
