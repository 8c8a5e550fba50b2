"""What webd decides: pure functions of values, no sockets, no clock, no database."""
