"""Numbers that describe how batch and biology lie in the features; each comes with its support."""

from __future__ import annotations

from napari_batchfx.probe.metrics.class_retention import class_retention
from napari_batchfx.probe.metrics.clustering import clustering_score, clustering_score_job
from napari_batchfx.probe.metrics.components import pcr, pcr_comparison
from napari_batchfx.probe.metrics.cramers_v import cramers_v
from napari_batchfx.probe.metrics.lisi import clisi, ilisi, lisi
from napari_batchfx.probe.metrics.margins import croma, croma_job, mari
from napari_batchfx.probe.metrics.mixing import batch_asw, graph_connectivity, kbet
from napari_batchfx.probe.metrics.pairs import paired_cosine, paired_top_k
from napari_batchfx.probe.metrics.performance_drop import average_performance_drop
from napari_batchfx.probe.metrics.predictions import concordance, prediction_cov
from napari_batchfx.probe.metrics.result import MetricResult
from napari_batchfx.probe.metrics.robustness_index import (
    PUBLISHED_K,
    candidate_ks,
    robustness_index,
    robustness_index_job,
)
from napari_batchfx.probe.metrics.summary import measure, measure_job

__all__ = [
    "PUBLISHED_K",
    "MetricResult",
    "average_performance_drop",
    "batch_asw",
    "candidate_ks",
    "class_retention",
    "clisi",
    "clustering_score",
    "clustering_score_job",
    "concordance",
    "cramers_v",
    "croma",
    "croma_job",
    "graph_connectivity",
    "ilisi",
    "kbet",
    "lisi",
    "mari",
    "measure",
    "measure_job",
    "paired_cosine",
    "paired_top_k",
    "pcr",
    "pcr_comparison",
    "prediction_cov",
    "robustness_index",
    "robustness_index_job",
]
