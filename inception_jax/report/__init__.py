"""Reports on runs: figures, pages and tables. Reads files only, and needs no JAX."""
