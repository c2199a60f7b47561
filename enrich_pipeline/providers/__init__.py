"""The providers: one protocol, one HTTP client, one file per external API."""
