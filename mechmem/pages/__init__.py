"""Pages of HTML that need nothing else: the report on audited networks, and the page to explore one."""
