"""What a person looks at beside the study pages: all of runs/, what was mined, W&B by code."""
