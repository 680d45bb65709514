"""What all flows share: the pipeline's stages, a run from lease to end, progress, artifacts."""
