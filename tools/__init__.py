"""What proves tfdet to itself. Run from a checkout; not installed but for `crosscheck`, which `--verify` runs."""
