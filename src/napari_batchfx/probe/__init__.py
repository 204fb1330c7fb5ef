"""Site probe, and metrics of batch and biology."""

from __future__ import annotations

from napari_batchfx.probe import metrics
from napari_batchfx.probe.fitted import FittedProbe
from napari_batchfx.probe.probes import PROBES
from napari_batchfx.probe.projection import Projection, projection, projection_job
from napari_batchfx.probe.result import SiteProbeResult
from napari_batchfx.probe.signature import SignatureResult, signature, signature_job
from napari_batchfx.probe.site_probe import site_probe, site_probe_job

__all__ = [
    "PROBES",
    "FittedProbe",
    "Projection",
    "SignatureResult",
    "SiteProbeResult",
    "metrics",
    "projection",
    "projection_job",
    "signature",
    "signature_job",
    "site_probe",
    "site_probe_job",
]
