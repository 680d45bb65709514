"""What a Prefect server is set up with, and the processes of `make ui`."""
