"""The quality of embeddings: plain functions of tensors that objectives call."""
