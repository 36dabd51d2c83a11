"""The finished run of tests/experiments, and its data."""

from tests.experiments import conftest as experiments

prepared = experiments.prepared
finished = experiments.finished
config = experiments.config
