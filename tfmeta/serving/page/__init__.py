"""The page of `tfmeta serve`: support items, the list before and after adaptation, and the influence of each."""
