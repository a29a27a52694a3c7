"""Programs that run in another Python, with another framework and without tfdet. Nothing here is imported."""
