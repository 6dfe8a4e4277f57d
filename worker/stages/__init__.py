"""The stages of the pipeline: claim, decode, classify, commit."""
