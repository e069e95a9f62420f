"""The relay's edge: generated proto types live here and in `outbox`, nowhere else."""
