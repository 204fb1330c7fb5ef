"""Plots for the docks, in pyqtgraph: they follow napari's theme and fit into 300 px."""
