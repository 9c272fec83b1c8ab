"""Reports of evaluation results: tables, records and files."""
