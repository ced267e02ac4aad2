"""The headline claims of deep-learning courses, one study each, and what came of them: ``docs/claims.md``."""
