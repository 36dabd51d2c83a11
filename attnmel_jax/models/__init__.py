"""Images -> logits and named intermediates."""
