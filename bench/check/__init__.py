"""How often `goodfit check` is right: programs that train, with and without a fault."""
