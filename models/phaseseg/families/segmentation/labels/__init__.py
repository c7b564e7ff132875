"""Weak phase labels: from the density of a species to the phase of every atom."""
