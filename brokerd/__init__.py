"""The broker: messages, deliveries and the durable feed of events."""
