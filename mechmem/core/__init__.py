"""Task, subject, roles, scores, results, configs, the plugin registry, and saved files."""
