"""What a command shows of a run: the stages while it runs, warnings, and a summary at the end."""
