"""What a Novel Engine application imports to be observed; it never imports the agent."""
