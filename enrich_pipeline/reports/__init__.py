"""What the tables say, put together for people and programs: read only."""
