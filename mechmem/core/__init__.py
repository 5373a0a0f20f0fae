"""The words every room speaks, and the files they are kept in."""
