"""A study -> a report: numbers and answers, no layout."""
