"""Programs that use a client and fork, as a test starts them; the settings come from the environment."""
