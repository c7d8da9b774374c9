"""The version of Shardwise, stated once."""

VERSION = "0.1.0"
