"""Programs that train, with faults and without, and what is found in them."""
