"""Whether a training program that is killed goes on as if it had not: run it, kill it, start it again, compare."""
