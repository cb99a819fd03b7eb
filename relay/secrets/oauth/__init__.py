"""Access tokens: how they are asked for, kept and renewed."""
