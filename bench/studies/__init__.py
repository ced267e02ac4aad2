"""Whether a study's statistics keep their word, by simulation; and what pairing saves, on real runs."""
