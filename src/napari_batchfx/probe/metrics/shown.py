"""How metrics are shown to people: name, what the ends of the scale mean, one sentence."""

from __future__ import annotations

from typing import Final

__all__ = ["SHOWN"]

#: Function: how a person calls it, what the ends of its scale mean, one sentence.
SHOWN: Final[dict[str, tuple[str, str, str]]] = {
    "robustness_index": (
        "Robustness index",
        "0 batch, 1 biology",
        "Of neighbours that share either class or batch, the share that shares the class.",
    ),
    "croma": (
        "Margin (CRoMa)",
        "-1 batch, 1 biology",
        "How much nearer tiles of the class elsewhere are than other tiles of the batch; median.",
    ),
    "mari": (
        "Weighted index (MaRI)",
        "0 batch, 1 biology",
        "The robustness index with near neighbours counting more.",
    ),
    "ilisi": (
        "Mixing (iLISI)",
        "0 apart, 1 mixed",
        "How many batches a neighbourhood holds.",
    ),
    "kbet": (
        "Mixing (kBET)",
        "0 apart, 1 mixed",
        "Share of neighbourhoods with the batches in the shares of the whole.",
    ),
    "batch_asw": (
        "Mixing (batch ASW)",
        "0 apart, 1 mixed",
        "How little batches form clouds of their own.",
    ),
    "pcr": (
        "Variance (PCR)",
        "0 none, 1 all of it",
        "Share of the variance that goes with the batch.",
    ),
    "clisi": (
        "Class apart (cLISI)",
        "0 mixed, 1 apart",
        "How few classes a neighbourhood holds.",
    ),
    "graph_connectivity": (
        "Class connected",
        "0 pieces, 1 whole",
        "Whether tiles of a class hang together over batches.",
    ),
    "class_retention": (
        "Class by vote",
        "biology",
        "Balanced accuracy of the class by a vote of nearest neighbours elsewhere.",
    ),
    "cramers_v": (
        "Class with batch (V)",
        "0 free, 1 tied",
        "How far class and batch go together in these tiles.",
    ),
}
