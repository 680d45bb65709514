"""The flows that Prefect runs, each with its form in `flows.forms`; what they share is in `flows.engine`."""
