"""Pages of HTML that need nothing else: the report on audited networks."""
