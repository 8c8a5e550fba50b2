"""What crosses a socket: requests, replies, names, limits and problem codes. Pure data; imports msgspec alone."""
