"""The commands behind `make`. Each ends with a sentence and 2 where `.env` cannot be read, as those of `flows` do."""

import flows  # noqa: F401 - it looks at the environment before Prefect does
