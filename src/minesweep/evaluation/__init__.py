"""What embeddings are worth: plain functions of tensors, called where objectives evaluate."""
