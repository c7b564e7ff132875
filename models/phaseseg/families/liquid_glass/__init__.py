"""Liquid or glass: structural metrics, networks on neighbor graphs and on images."""
