"""Official archives -> batches."""
