"""Whole runs, from a config to a run folder."""
