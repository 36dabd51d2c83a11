"""Synthetic dermoscopy, written as the official archives are."""
