"""The live feed over real sockets, beside what one would write by hand with Channels."""
