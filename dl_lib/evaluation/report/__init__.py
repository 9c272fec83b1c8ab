"""What an evaluation tells people and programs: tables, records, pictures."""
