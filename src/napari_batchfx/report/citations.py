"""The works a report rests on, and which of them fit what is in it."""

from __future__ import annotations

from typing import Final, NamedTuple

from napari_batchfx.report.data import ReportData

__all__ = ["CITATIONS", "Citation", "citations_for"]


class Citation(NamedTuple):
    """A work: what is printed, and where it is found."""

    text: str
    where: str


CITATIONS: Final[dict[str, Citation]] = {
    "koemen2024": Citation(
        "Kömen J, de Jong ED, Hense J, et al. Do histopathological foundation models eliminate batch "
        "effects? A comparative study. 2024 (the site probe).",
        "arXiv:2411.05489",
    ),
    "pathorob2025": Citation(
        "Kömen J, de Jong ED, Hense J, et al. Towards robust foundation models for digital pathology "
        "(PathoROB). 2025 (class structure by nearest neighbours).",
        "arXiv:2507.17845",
    ),
    "scangen2025": Citation(
        "Carloni G, Brattoli B, Keum S, et al. Pathology foundation models are scanner sensitive: benchmark "
        "and mitigation with contrastive ScanGen loss. 2025.",
        "arXiv:2507.22092",
    ),
    "csarmbn2026": Citation(
        "Sanchez-Fernandez et al. CS-ARM-BN (adapting to new batches with control samples). 2026.",
        "arXiv:2604.20824",
    ),
    "macenko2009": Citation(
        "Macenko M, Niethammer M, Marron JS, et al. A method for normalizing histology slides for "
        "quantitative analysis. IEEE International Symposium on Biomedical Imaging, 1107-1110, 2009.",
        "doi:10.1109/ISBI.2009.5193250",
    ),
    "reinhard2001": Citation(
        "Reinhard E, Adhikhmin M, Gooch B, Shirley P. Color transfer between images. IEEE Computer Graphics "
        "and Applications 21(5), 34-41, 2001.",
        "doi:10.1109/38.946629",
    ),
    "vahadane2016": Citation(
        "Vahadane A, Peng T, Sethi A, et al. Structure-preserving color normalization and sparse stain "
        "separation for histological images. IEEE Transactions on Medical Imaging 35(8), 1962-1971, 2016.",
        "doi:10.1109/TMI.2016.2529665",
    ),
    "ruifrok2001": Citation(
        "Ruifrok AC, Johnston DA. Quantification of histochemical staining by color deconvolution. "
        "Analytical and Quantitative Cytology and Histology 23(4), 291-299, 2001.",
        "PMID:11531144",
    ),
    "roy2021": Citation(
        "Roy S, Panda S, Jangid M. Modified Reinhard algorithm for color normalization of colorectal cancer "
        "histopathology images. 2021.",
        "European Signal Processing Conference (EUSIPCO)",
    ),
    "schoenpflug2026": Citation(
        "Schönpflug et al. Staining-robustness protocol (density estimate, simulated staining conditions). "
        "2026.",
        "arXiv:2603.12886",
    ),
    "caicedo2017": Citation(
        "Caicedo JC, Cooper S, Heigwer F, et al. Data-analysis strategies for image-based cell profiling. "
        "Nature Methods 14, 849-863, 2017 (standardising on controls).",
        "doi:10.1038/nmeth.4397",
    ),
    "ando2017": Citation(
        "Ando DM, McLean CY, Berndl M. Improving phenotypic measurements in high-content imaging screens "
        "(typical variation normalization). 2017.",
        "bioRxiv:161422",
    ),
    "kessy2018": Citation(
        "Kessy A, Lewin A, Strimmer K. Optimal whitening and decorrelation. The American Statistician 72, "
        "309-314, 2018 (sphering).",
        "doi:10.1080/00031305.2016.1277159",
    ),
    "sun2016": Citation(
        "Sun B, Feng J, Saenko K. Return of frustratingly easy domain adaptation. AAAI, 2016 (CORAL).",
        "arXiv:1511.05547",
    ),
    "johnson2007": Citation(
        "Johnson WE, Li C, Rabinovic A. Adjusting batch effects in microarray expression data using "
        "empirical "
        "Bayes methods. Biostatistics 8, 118-127, 2007 (ComBat).",
        "doi:10.1093/biostatistics/kxj037",
    ),
    "schoenemann1966": Citation(
        "Schönemann PH. A generalized solution of the orthogonal Procrustes problem. Psychometrika 31, 1-10, "
        "1966.",
        "doi:10.1007/BF02289451",
    ),
    "hoerl1970": Citation(
        "Hoerl AE, Kennard RW. Ridge regression: biased estimation for nonorthogonal problems. Technometrics "
        "12, 55-67, 1970.",
        "doi:10.1080/00401706.1970.10488634",
    ),
    "korsunsky2019": Citation(
        "Korsunsky I, Millard N, Fan J, et al. Fast, sensitive and accurate integration of single-cell data "
        "with Harmony. Nature Methods 16, 1289-1296, 2019.",
        "doi:10.1038/s41592-019-0619-0",
    ),
}


#: Work on the same question whose methods are not used here.
_RELATED: Final = ("scangen2025", "csarmbn2026")


#: What a correction is called, in a row of the report, and the work it comes from.
_METHOD_WORKS: Final = {
    ("standardise",): "caicedo2017",
    ("tvn", "typical variation"): "ando2017",
    ("sphering",): "kessy2018",
    ("coral",): "sun2016",
    ("combat",): "johnson2007",
    ("procrustes",): "schoenemann1966",
    ("ridge map",): "hoerl1970",
    ("harmony",): "korsunsky2019",
}


def citations_for(data: ReportData) -> tuple[list[Citation], list[Citation]]:
    """The works whose methods are in a report (or that it names itself), and related work beside them."""
    asked = _fitting(data) if data.citations is None else data.citations
    named = [key for key in asked if key in CITATIONS]
    return (
        [CITATIONS[key] for key in named if key not in _RELATED],
        [CITATIONS[key] for key in named if key in _RELATED],
    )


def _fitting(data: ReportData) -> list[str]:
    keys: list[str] = []
    if data.probes or data.overlays:
        keys.append("koemen2024")
    if data.adaptations:
        keys += ["pathorob2025", "scangen2025", "csarmbn2026"]
    corrections = " ".join(f"{row.correction} {row.head}".lower() for row in data.adaptations)
    keys += [key for words, key in _METHOD_WORKS.items() if any(word in corrections for word in words)]
    variants = [row.method for row in data.stains] + [row.stain for row in data.probes]
    methods = " ".join(variants + [row.stain for row in data.adaptations]).lower()
    if "macenko" in methods:
        keys.append("macenko2009")
    if "reinhard" in methods:
        keys.append("reinhard2001")
    if "keeping contrast" in methods:
        keys.append("roy2021")
    if "vahadane" in methods:
        keys.append("vahadane2016")
    if "ruifrok" in methods:
        keys.append("ruifrok2001")
    if "densest colours" in methods:
        keys.append("schoenpflug2026")
    return keys
