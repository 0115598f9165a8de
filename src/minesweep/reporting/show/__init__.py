"""A report -> console, Markdown, CSV, HTML, PNG."""
