"""What makes changes start a run: counts of changes, Realtime's hints, when a run is due, health."""
