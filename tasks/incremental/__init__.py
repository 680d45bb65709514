"""A night that reads what changed, and leaves what a full night would: byte for byte, row for row.

`mode` decides which it is, `gather` finds and fetches, `merge` makes the tables and files from base and changes, and
`write` says what to write. What cannot be computed from the changes makes the night full: `GoFull`.
"""
