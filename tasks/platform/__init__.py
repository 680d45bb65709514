"""What the pipeline stands on: HTTP, Postgres, our SQL functions, the bucket."""
