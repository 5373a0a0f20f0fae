"""The networks that mechmem builds, and their configs."""
