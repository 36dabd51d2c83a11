"""Run folders -> figures."""
