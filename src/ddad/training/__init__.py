"""Training: one loop, two stages, side by side in processes, and never lost."""
