"""The site: pages that are made here, for the same callers and under the same tokens as the API."""
