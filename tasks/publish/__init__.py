"""Files to Storage, the pointer, and what happens to them later: retention, restore, export."""
