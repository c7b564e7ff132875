"""Neighbors in any cell: within a cutoff or the k nearest, and the graph of a frame."""

from phaseseg.neighbors.bins import Bins, sort_into_bins
from phaseseg.neighbors.graph import DirectedEdges, Graph, neighbor_graph, place_among, symmetric_edges
from phaseseg.neighbors.nearest import NearestNeighbors, nearest_neighbors

__all__ = [
    "Bins",
    "DirectedEdges",
    "Graph",
    "NearestNeighbors",
    "nearest_neighbors",
    "neighbor_graph",
    "place_among",
    "sort_into_bins",
    "symmetric_edges",
]
