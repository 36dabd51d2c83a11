"""Attention-regularised recognition of skin lesions in JAX (Yan, SFU 2020)."""

__version__ = '0.1.0'
