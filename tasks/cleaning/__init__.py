"""Raw batches in; cleaned batches, rejects, counts and partial tables out."""
