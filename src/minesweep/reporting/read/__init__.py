"""Run folders -> one tidy study."""
