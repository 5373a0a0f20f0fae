"""Hook points on any module: naming, attaching, running with hooks."""
