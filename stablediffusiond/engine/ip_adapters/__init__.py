"""IP-Adapters: pictures beside the prompt, which some rows of a call look at."""
