"""What every server of the agent stands on: sockets, limits, access, counts. The API and the receivers share it."""
