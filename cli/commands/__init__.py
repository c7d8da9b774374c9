"""The commands of `shardwise` by subject: flags and texts of each, and nothing loaded before it runs."""
