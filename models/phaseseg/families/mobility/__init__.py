"""Mobility of the particles of a supercooled liquid from their structure."""
