"""One row a run: its lease, its state, and whether it can be resumed."""
