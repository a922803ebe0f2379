"""The store: records, traces, blobs, keys and lineage of a project, on SQLite or Postgres."""
