"""Neighbors in any cell: within a cutoff, or the k nearest."""

from phaseseg.neighbors.graph import Graph, NearestNeighbors, nearest_neighbors, neighbor_graph

__all__ = ["Graph", "NearestNeighbors", "nearest_neighbors", "neighbor_graph"]
