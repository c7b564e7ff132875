"""Atomic environments of data sets for force fields: descriptors, clusters, spanning trees and coverage."""
