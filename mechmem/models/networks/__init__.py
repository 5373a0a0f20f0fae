"""Networks that mechmem builds, and their configs."""
