"""Who may use the broker: the fleet's certificate authority, credentials, and mosquitto's files."""
