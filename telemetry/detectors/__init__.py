"""Every detector of faults of a GPU, found by file name; nothing to edit when one is added."""
