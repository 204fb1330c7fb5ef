"""Encoders: the models that turn tiles into vectors, and the job that feeds them."""

from napari_batchfx.encoders.base import Encoder, EncoderMemoryError
from napari_batchfx.encoders.card import EncoderCard
from napari_batchfx.encoders.classifier import ClassifierHead
from napari_batchfx.encoders.colour_statistics import ColourStatistics
from napari_batchfx.encoders.listing import available, describe
from napari_batchfx.encoders.loading import download, load, load_job
from napari_batchfx.encoders.registry import ENCODERS, EncoderSpec
from napari_batchfx.encoders.runner import EncodedBatch, encode

__all__ = [
    "ENCODERS",
    "ClassifierHead",
    "ColourStatistics",
    "EncodedBatch",
    "Encoder",
    "EncoderCard",
    "EncoderMemoryError",
    "EncoderSpec",
    "available",
    "describe",
    "download",
    "encode",
    "load",
    "load_job",
]
