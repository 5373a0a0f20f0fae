"""Hook points on any module: names, attachment, and passes with hooks."""
