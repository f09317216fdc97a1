"""How the embedded server holds models: versions, their states, leases, polling, and who may call."""
